// Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
//
//     g++ -std=c++17 join.cpp -o join -pthread
//     USHER_PASSWORD=… ./join http://127.0.0.1:8888 ada@example.org channel:ID
//
// Boost 1.74 or later (Debian: libboost-dev) and JSON for Modern C++ (nlohmann-json3-dev). It speaks
// http only; for https put boost::asio::ssl::stream<tcp::socket> below both.
#include <boost/asio/connect.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using asio::ip::tcp;
using nlohmann::json;

struct Server {
    std::string host, port;

    explicit Server(const std::string& url) {
        auto authority = url.substr(url.find("//") + 2);
        auto colon = authority.rfind(':');
        host = authority.substr(0, colon);
        port = colon == std::string::npos ? "80" : authority.substr(colon + 1);
    }
    std::string authority() const { return host + ":" + port; }
    void connect(asio::io_context& io, tcp::socket& socket) const {
        asio::connect(socket, tcp::resolver(io).resolve(host, port));
    }
};

// Returns the access token. A real app keeps the refresh token too, and renews with it.
std::string sign_in(asio::io_context& io, const Server& server, const char* email) {
    const char* password = std::getenv("USHER_PASSWORD");
    if (!password) throw std::runtime_error("USHER_PASSWORD is not set");
    tcp::socket line(io);
    server.connect(io, line);
    http::request<http::string_body> request(http::verb::post, "/api/auth/login", 11);
    request.set(http::field::host, server.authority());
    request.set(http::field::content_type, "application/json");
    request.body() = json{{"email", email}, {"password", password}, {"client", "native"}}.dump();
    request.prepare_payload();
    http::write(line, request);
    beast::flat_buffer buffer;
    http::response<http::string_body> answer;
    http::read(line, buffer, answer);
    if (answer.result() != http::status::ok) throw std::runtime_error(answer.body());
    auto signed_in = json::parse(answer.body());
    std::cout << "signed in as " << signed_in["user"]["name"].get<std::string>() << std::endl;
    return signed_in["access_token"];
}

// What to send on a frame of the server; null: nothing.
json answer_to(const json& frame, const std::string& room) {
    auto event = frame["event"].get<std::string>();
    if (event == "joined") return {{"event", "join"}, {"id", 1}, {"data", {{"room", room}}}};
    if (event == "reply" && !frame["ok"].get<bool>()) {
        std::cout << "refused " << frame["error"]["code"].get<std::string>() << std::endl;
    } else if (event == "reply" && frame["id"] == 1) {
        std::cout << "joined " << room << std::endl;
        return {{"event", "message"}, {"id", 2}, {"data", {{"room", room}, {"data", "hello"}}}};
    } else if (event == "message") {
        std::cout << "received " << frame["data"]["data"].get<std::string>() << std::endl;
    } else if (event == "closing") {
        const auto& end = frame["data"];
        std::cout << "closing " << end["code"] << " " << end["reason"].get<std::string>()
                  << ", retry: " << end["retry"].get<std::string>() << std::endl;
    }
    return nullptr;
}

int main(int argc, char** argv) {
    if (argc != 4) {
        std::cerr << "usage: join http://127.0.0.1:8888 EMAIL ROOM" << std::endl;
        return 2;
    }
    try {
        asio::io_context io;
        Server server(argv[1]);
        auto token = sign_in(io, server, argv[2]);
        websocket::stream<tcp::socket> socket(io);
        server.connect(io, socket.next_layer());
        socket.set_option(websocket::stream_base::decorator([&](websocket::request_type& request) {
            request.set(http::field::authorization, "Bearer " + token);
        }));
        socket.handshake(server.authority(), "/ws");
        while (true) {
            beast::flat_buffer buffer;
            beast::error_code error;
            socket.read(buffer, error);
            if (error == websocket::error::closed) {
                std::cout << "closed " << socket.reason().code << " " << socket.reason().reason << std::endl;
                return 0;
            }
            if (error) throw beast::system_error(error);
            auto answer = answer_to(json::parse(beast::buffers_to_string(buffer.data())), argv[3]);
            if (!answer.is_null()) socket.write(asio::buffer(answer.dump()));
        }
    } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
}
