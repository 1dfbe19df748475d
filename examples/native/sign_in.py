"""A command-line program that signs in through the system's browser and opens a socket.

    pip install websockets
    python sign_in.py http://127.0.0.1:8888
    python sign_in.py http://127.0.0.1:8888 --provider google

RFC 8252: the browser shows the sign-in page, and sends its answer to a port that this program
listens on for a minute or two. RFC 7636: a code that somebody else picks up on the way is worth
nothing without the verifier, which never leaves this program.

`BROWSER` in the environment says which browser is opened, as everywhere in Python.
"""

import argparse
import asyncio
import base64
import hashlib
import http.server
import json
import queue
import secrets
import sys
import threading
import urllib.error
import urllib.request
import webbrowser
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import websockets

WAIT_SECONDS = 300
AGENT = "Usher example (Python)"
PAGE = "<!doctype html><meta charset=utf-8><title>Done</title><p>{}</p>"


def sign_in(server: str, provider: str = "") -> Any:
    """Sign in in the browser; gives the user and the tokens."""
    verifier, state = secrets.token_urlsafe(32), secrets.token_urlsafe(16)
    digest = hashlib.sha256(verifier.encode()).digest()
    with Listener(state) as listener:
        redirect_uri = f"http://127.0.0.1:{listener.server_port}/callback"
        query = urlencode(
            {
                "client": "native",
                "redirect_uri": redirect_uri,
                "state": state,
                "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
                "code_challenge_method": "S256",
            }
        )
        url = (
            f"{server}/oauth/{provider}/login?{query}" if provider else f"{server}/sign-in?{query}"
        )
        print("Sign in in your browser:", url, flush=True)
        # Some browsers are not back before they are closed.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        try:
            answer = listener.answers.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            raise SystemExit("Nobody signed in.") from None
        finally:
            listener.shutdown()
    if answer.get("iss") != server:
        said = answer.get("iss", "nobody")  # RFC 9207
        raise SystemExit(
            f"The answer is of {said} and not of {server}: give the server's own address."
        )
    if "code" not in answer:
        raise SystemExit(f"Not signed in: {answer.get('error', 'no answer')}")
    return post(
        server,
        "/api/auth/exchange",
        {"code": answer["code"], "code_verifier": verifier, "redirect_uri": redirect_uri},
    )


class Answer(http.server.BaseHTTPRequestHandler):
    """What comes to our port. Of all that, the browser's answer has our own `state`."""

    server: "Listener"
    timeout = 20

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        found = {name: values[0] for name, values in parse_qs(parts.query).items()}
        state = found.get("state", "").encode()
        ours = parts.path == "/callback" and secrets.compare_digest(state, self.server.state)
        said = "You are signed in." if "code" in found else "You are not signed in."
        page = PAGE.format(f"{said} You can close this page." if ours else "There is nothing here.")
        self.send_response(200 if ours else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())
        if ours:
            self.server.answers.put(found)

    def log_message(self, *_: object) -> None:
        """Codes are not for logs."""


class Listener(http.server.ThreadingHTTPServer):
    """A port of this machine's that the browser comes back to."""

    def __init__(self, state: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.state = state.encode()
        self.answers: queue.Queue[dict[str, str]] = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()


def post(server: str, path: str, body: dict[str, str]) -> Any:
    request = urllib.request.Request(
        server + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "User-Agent": AGENT},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{path}: {error.read().decode()}") from error


async def listen(server: str, token: str) -> None:
    """Open a socket and print what comes."""
    url = "ws" + server.removeprefix("http") + "/ws"
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(url, additional_headers=headers) as socket:
        async for frame in socket:
            print(frame, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Sign in through the browser, open a socket.")
    parser.add_argument("server", help="where Usher is, such as http://127.0.0.1:8888")
    parser.add_argument("--provider", default="", help="go to this provider at once")
    arguments = parser.parse_args()
    server = arguments.server.rstrip("/")
    signed_in = sign_in(server, arguments.provider)
    print("Signed in as", signed_in["user"]["name"], flush=True)
    # A real app keeps signed_in["refresh_token"] in the system's keychain, and renews with it.
    try:
        asyncio.run(listen(server, signed_in["access_token"]))
    except websockets.ConnectionClosed as closed:
        sys.exit(f"The socket was closed: {closed}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
