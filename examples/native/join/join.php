<?php
/* Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
 *
 *     USHER_PASSWORD=… php join.php http://127.0.0.1:8888 ada@example.org channel:ID
 *
 * PHP 8.1 or later and no package: PHP has no WebSocket client of its own, so this has the part of RFC 6455 that
 * a client of Usher needs. With Composer there are packages such as phrity/websocket. */

declare(strict_types=1);

const TEXT = 1, CLOSE = 8, PING = 9, PONG = 10;

[, $server, $email, $room] = $argv;
$socket = open($server, sign_in($server, $email));
while (true) {
    [$opcode, $payload] = receive($socket);
    if ($opcode === PING) {
        write($socket, PONG, $payload); // answered only here, when the program reads
    } elseif ($opcode === CLOSE) {
        write($socket, CLOSE, substr($payload, 0, 2));
        printf("closed %d %s\n", strlen($payload) >= 2 ? unpack('n', $payload)[1] : 1005, substr($payload, 2));
        exit;
    } elseif ($opcode === TEXT) {
        take($socket, json_decode($payload, true, flags: JSON_THROW_ON_ERROR), $room);
    }
}

/** Returns the access token. A real app keeps the refresh token too, and renews with it. */
function sign_in(string $server, string $email): string
{
    $body = ['email' => $email, 'password' => getenv('USHER_PASSWORD'), 'client' => 'native'];
    $answer = file_get_contents("$server/api/auth/login", context: stream_context_create(['http' => [
        'method' => 'POST', 'header' => 'Content-Type: application/json', 'timeout' => 20,
        'content' => json_encode($body), 'ignore_errors' => true,
    ]]));
    $signed_in = json_decode((string) $answer, true);
    if (!isset($signed_in['access_token'])) {
        throw new RuntimeException((string) $answer);
    }
    echo "signed in as {$signed_in['user']['name']}\n";
    return $signed_in['access_token'];
}

function take($socket, array $frame, string $room): void
{
    $send = fn (array $frame) => write($socket, TEXT, json_encode($frame));
    $data = $frame['data'] ?? [];
    if ($frame['event'] === 'joined') {
        $send(['event' => 'join', 'id' => 1, 'data' => ['room' => $room]]);
    } elseif ($frame['event'] === 'reply' && !$frame['ok']) {
        echo "refused {$frame['error']['code']}\n";
    } elseif ($frame['event'] === 'reply' && $frame['id'] === 1) {
        echo "joined $room\n";
        $send(['event' => 'message', 'id' => 2, 'data' => ['room' => $room, 'data' => 'hello']]);
    } elseif ($frame['event'] === 'message') {
        echo "received {$data['data']}\n";
    } elseif ($frame['event'] === 'closing') {
        echo "closing {$data['code']} {$data['reason']}, retry: {$data['retry']}\n";
    }
}

/** The opening handshake (RFC 6455, 4.1). */
function open(string $server, string $token)
{
    $url = parse_url($server);
    $tls = $url['scheme'] === 'https';
    $port = $url['port'] ?? ($tls ? 443 : 80);
    $socket = stream_socket_client(($tls ? 'tls' : 'tcp') . "://{$url['host']}:$port", $errno, $error, 20)
        ?: throw new RuntimeException($error);
    stream_set_timeout($socket, 65); // the server pings every 20 seconds
    $key = base64_encode(random_bytes(16));
    fwrite($socket, "GET /ws HTTP/1.1\r\nHost: {$url['host']}:$port\r\nUpgrade: websocket\r\n"
        . "Connection: Upgrade\r\nSec-WebSocket-Key: $key\r\nSec-WebSocket-Version: 13\r\n"
        . "Authorization: Bearer $token\r\n\r\n");
    $head = '';
    while (!str_ends_with($head, "\r\n\r\n")) {
        $line = fgets($socket);
        $head .= $line === false ? throw new RuntimeException('no answer to the handshake') : $line;
    }
    $accept = base64_encode(sha1($key . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11', true));
    if (!str_starts_with($head, 'HTTP/1.1 101 ') || !str_contains($head, $accept)) {
        throw new RuntimeException(strtok($head, "\r"));
    }
    return $socket;
}

/** One frame, masked as a client has to (5.3). */
function write($socket, int $opcode, string $payload): void
{
    $length = strlen($payload);
    $size = match (true) {
        $length < 126 => chr(0x80 | $length),
        $length < 65536 => chr(0x80 | 126) . pack('n', $length),
        default => chr(0x80 | 127) . pack('J', $length),
    };
    $key = random_bytes(4);
    $mask = str_repeat($key, intdiv($length, 4) + 1);
    fwrite($socket, chr(0x80 | $opcode) . $size . $key . ($payload ^ substr($mask, 0, $length)));
}

/** @return array{int, string} the opcode and the payload of the next frame; Usher sends no fragments */
function receive($socket): array
{
    [$first, $second] = array_values(unpack('C2', read($socket, 2)));
    $length = match ($second & 0x7F) {
        126 => unpack('n', read($socket, 2))[1],
        127 => unpack('J', read($socket, 8))[1],
        default => $second & 0x7F,
    };
    return [$first & 0x0F, $length ? read($socket, $length) : ''];
}

function read($socket, int $count): string
{
    $data = '';
    while (strlen($data) < $count) {
        $part = fread($socket, $count - strlen($data));
        if ($part === false || $part === '') {
            throw new RuntimeException('the connection is lost'); // no close frame: 1006 elsewhere
        }
        $data .= $part;
    }
    return $data;
}
