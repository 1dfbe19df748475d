// Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
//
//     USHER_PASSWORD=… java -cp gson.jar Join.java http://127.0.0.1:8888 ada@example.org channel:ID
//
// JDK 17 or later; JSON by Gson (Debian: libgoogle-gson-java, /usr/share/java/gson.jar).
import com.google.gson.Gson;
import com.google.gson.JsonObject;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;

public class Join implements WebSocket.Listener {
    private static final Gson JSON = new Gson();
    private final String room;
    private final StringBuilder parts = new StringBuilder();
    private final CompletableFuture<Void> closed = new CompletableFuture<>();

    Join(String room) {
        this.room = room;
    }

    public static void main(String[] args) throws Exception {
        String server = args[0];
        HttpClient http = HttpClient.newHttpClient();
        String body = JSON.toJson(Map.of(
            "email", args[1], "password", System.getenv("USHER_PASSWORD"), "client", "native"));
        HttpRequest request = HttpRequest.newBuilder(URI.create(server + "/api/auth/login"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body)).build();
        HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) throw new IllegalStateException(answer.body());
        // A real app keeps the refresh token too, and renews with it.
        JsonObject signedIn = JSON.fromJson(answer.body(), JsonObject.class);
        System.out.println("signed in as " + signedIn.getAsJsonObject("user").get("name").getAsString());

        Join listener = new Join(args[2]);
        http.newWebSocketBuilder()
            .header("Authorization", "Bearer " + signedIn.get("access_token").getAsString())
            .buildAsync(URI.create("ws" + server.substring("http".length()) + "/ws"), listener).join();
        listener.closed.join();
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
        parts.append(data);
        if (last) {
            String text = parts.toString();
            parts.setLength(0);
            take(socket, JSON.fromJson(text, JsonObject.class));
        }
        socket.request(1); // the next one; pings are answered only while one is asked for
        return null;
    }

    private void take(WebSocket socket, JsonObject frame) {
        JsonObject data = frame.has("data") ? frame.getAsJsonObject("data") : new JsonObject();
        switch (frame.get("event").getAsString()) {
            case "joined" -> send(socket, "join", 1, Map.of("room", room));
            case "reply" -> {
                if (!frame.get("ok").getAsBoolean()) {
                    System.out.println("refused " + frame.getAsJsonObject("error").get("code").getAsString());
                } else if (frame.get("id").getAsInt() == 1) {
                    System.out.println("joined " + room);
                    send(socket, "message", 2, Map.of("room", room, "data", "hello"));
                }
            }
            case "message" -> System.out.println("received " + data.get("data").getAsString());
            case "closing" -> System.out.println("closing " + data.get("code").getAsInt() + " "
                + data.get("reason").getAsString() + ", retry: " + data.get("retry").getAsString());
            default -> { }
        }
    }

    private static void send(WebSocket socket, String event, int id, Map<String, String> data) {
        socket.sendText(JSON.toJson(Map.of("event", event, "id", id, "data", data)), true);
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
        System.out.println("closed " + code + " " + reason);
        closed.complete(null);
        return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        closed.completeExceptionally(error);
    }
}
