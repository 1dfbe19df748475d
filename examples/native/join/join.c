/* Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
 *
 *     cc join.c -o join -lwebsockets -lcurl -ljson-c
 *     USHER_PASSWORD=… ./join http://127.0.0.1:8888 ada@example.org channel:ID
 *
 * libwebsockets 4, libcurl and json-c (Debian: libwebsockets-dev libcurl4-openssl-dev libjson-c-dev).
 */
#include <curl/curl.h>
#include <json-c/json.h>
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    char *data;
    size_t length;
};

static struct {
    const char *room;
    char bearer[4096];
    struct json_object *to_send; /* the next frame, or NULL */
    struct text incoming;
    int done;
} client;

static void append(struct text *text, const void *data, size_t length) {
    text->data = realloc(text->data, text->length + length + 1);
    if (!text->data) abort();
    memcpy(text->data + text->length, data, length);
    text->length += length;
    text->data[text->length] = 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *text) {
    append(text, data, size * count);
    return size * count;
}

static struct json_object *member(struct json_object *of, const char *name) {
    struct json_object *found = NULL;
    json_object_object_get_ex(of, name, &found);
    return found;
}

static const char *string(struct json_object *of, const char *name) {
    return json_object_get_string(member(of, name));
}

/* Keeps the access token. A real app keeps the refresh token too, and renews with it. */
static int sign_in(const char *server, const char *email) {
    char url[1024];
    long status = 0;
    struct text answer = {0};
    struct json_object *body = json_object_new_object();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    const char *password = getenv("USHER_PASSWORD");
    CURL *http = curl_easy_init();

    json_object_object_add(body, "email", json_object_new_string(email));
    json_object_object_add(body, "password", json_object_new_string(password ? password : ""));
    json_object_object_add(body, "client", json_object_new_string("native"));
    snprintf(url, sizeof url, "%s/api/auth/login", server);
    curl_easy_setopt(http, CURLOPT_URL, url);
    curl_easy_setopt(http, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(http, CURLOPT_POSTFIELDS, json_object_to_json_string(body));
    curl_easy_setopt(http, CURLOPT_TIMEOUT, 20L);
    curl_easy_setopt(http, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(http, CURLOPT_WRITEDATA, &answer);
    CURLcode failed = curl_easy_perform(http);
    curl_easy_getinfo(http, CURLINFO_RESPONSE_CODE, &status);
    if (failed || status != 200) {
        fprintf(stderr, "%s\n", failed ? curl_easy_strerror(failed) : answer.data);
    } else {
        struct json_object *signed_in = json_tokener_parse(answer.data);
        printf("signed in as %s\n", string(member(signed_in, "user"), "name"));
        snprintf(client.bearer, sizeof client.bearer, "Bearer %s", string(signed_in, "access_token"));
        json_object_put(signed_in);
    }
    curl_easy_cleanup(http);
    curl_slist_free_all(headers);
    json_object_put(body);
    free(answer.data);
    return failed || status != 200;
}

/* libwebsockets writes when it asks for it. */
static void send_frame(struct lws *socket, const char *event, int id, const char *said) {
    struct json_object *data = json_object_new_object();
    json_object_object_add(data, "room", json_object_new_string(client.room));
    if (said) json_object_object_add(data, "data", json_object_new_string(said));
    client.to_send = json_object_new_object();
    json_object_object_add(client.to_send, "event", json_object_new_string(event));
    json_object_object_add(client.to_send, "id", json_object_new_int(id));
    json_object_object_add(client.to_send, "data", data);
    lws_callback_on_writable(socket);
}

static void write_frame(struct lws *socket) {
    unsigned char buffer[LWS_PRE + 4096];
    if (!client.to_send) return;
    const char *text = json_object_to_json_string(client.to_send);
    size_t length = strlen(text);
    if (length <= sizeof buffer - LWS_PRE) {
        memcpy(buffer + LWS_PRE, text, length);
        lws_write(socket, buffer + LWS_PRE, length, LWS_WRITE_TEXT);
    }
    json_object_put(client.to_send);
    client.to_send = NULL;
}

static void take(struct lws *socket, struct json_object *frame) {
    const char *event = string(frame, "event");
    struct json_object *data = member(frame, "data");
    if (!strcmp(event, "joined")) {
        send_frame(socket, "join", 1, NULL);
    } else if (!strcmp(event, "reply") && !json_object_get_boolean(member(frame, "ok"))) {
        printf("refused %s\n", string(member(frame, "error"), "code"));
    } else if (!strcmp(event, "reply") && json_object_get_int(member(frame, "id")) == 1) {
        printf("joined %s\n", client.room);
        send_frame(socket, "message", 2, "hello");
    } else if (!strcmp(event, "message")) {
        printf("received %s\n", string(data, "data"));
    } else if (!strcmp(event, "closing")) {
        printf("closing %s %s, retry: %s\n", string(data, "code"), string(data, "reason"), string(data, "retry"));
    }
}

static int told(struct lws *socket, enum lws_callback_reasons why, void *user, void *in, size_t length) {
    (void)user;
    switch (why) {
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER: {
        unsigned char **at = in;
        return lws_add_http_header_by_name(socket, (const unsigned char *)"Authorization:",
                                           (const unsigned char *)client.bearer, (int)strlen(client.bearer), at,
                                           *at + length);
    }
    case LWS_CALLBACK_CLIENT_RECEIVE:
        append(&client.incoming, in, length);
        if (lws_is_final_fragment(socket) && !lws_remaining_packet_payload(socket)) {
            struct json_object *frame = json_tokener_parse(client.incoming.data);
            take(socket, frame);
            json_object_put(frame);
            client.incoming.length = 0;
        }
        break;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        write_frame(socket);
        break;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: /* here 1012 is 1002: what `closing` said counts */
        if (length >= 2)
            printf("closed %d %.*s\n", ((unsigned char *)in)[0] << 8 | ((unsigned char *)in)[1], (int)length - 2,
                   (char *)in + 2);
        break;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        fprintf(stderr, "%s\n", in ? (char *)in : "no connection");
        client.done = 1;
        break;
    case LWS_CALLBACK_CLIENT_CLOSED:
        client.done = 1;
        break;
    default:
        break;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: join http://127.0.0.1:8888 EMAIL ROOM\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    lws_set_log_level(LLL_ERR, NULL);
    client.room = argv[3];
    if (sign_in(argv[1], argv[2])) return 1;

    char url[1024];
    const char *scheme, *host, *path;
    int port;
    snprintf(url, sizeof url, "%s", argv[1]);
    if (lws_parse_uri(url, &scheme, &host, &port, &path)) return 2;
    struct lws_protocols protocols[] = {{"usher.v1", told, 0, 65536, 0, NULL, 0}, {NULL, NULL, 0, 0, 0, NULL, 0}};
    struct lws_context_creation_info info = {0};
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.protocols = protocols;
    info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    struct lws_context *context = lws_create_context(&info);
    struct lws_client_connect_info to = {0};
    to.context = context;
    to.address = to.host = host;
    to.port = port;
    to.path = "/ws";
    to.protocol = "usher.v1";
    to.ssl_connection = strcmp(scheme, "https") ? 0 : LCCSCF_USE_SSL;
    lws_client_connect_via_info(&to);
    while (!client.done && lws_service(context, 0) >= 0) {}
    lws_context_destroy(context);
    free(client.incoming.data);
    curl_global_cleanup();
    return 0;
}
