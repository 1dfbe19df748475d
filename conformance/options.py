"""The command's options, and the target that they describe."""

from __future__ import annotations

import argparse
import os
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from conformance.target import ProviderSettings, Target, origin_of

EPILOG = """\
exit status: 0 every promise that was checked is kept; 1 one is broken; 2 nothing could be checked

Against a server with no accounts, such as one that was started for this:
  python -m conformance http://127.0.0.1:8888 --first-account
Against an installation with accounts: make a key there, and give it by the environment.
  server.py create-api-key conformance --scope publish --scope disconnect --scope read \\
    --scope introspect --scope channels --scope users
  CONFORMANCE_ADMIN_KEY=usher_key_... python -m conformance https://usher.example
"""


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m conformance",
        usage="%(prog)s [options] URL",
        description="Checks from outside whether a server keeps the promises of Usher's contract.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("url", nargs="?", type=_url, help="of the server: https://usher.example")
    _of_the_run(made.add_argument_group("what to run, and where to"))
    _of_the_server(made.add_argument_group("the server"))
    _of_its_settings(made.add_argument_group("the server's settings, where they are not defaults"))
    _of_the_provider(
        made.add_argument_group("the kit's OpenID provider, as the server is configured for it")
    )
    return made


def _of_the_run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--only", action="append", default=[], metavar="ID", help="case to run; * is a wildcard")
    add("--leave-out", action="append", default=[], metavar="ID", help="case not to run")
    add("--list", action="store_true", help="print the cases and exit")
    add("--strict", action="store_true", help="a case that could not be run is a failure")
    add("--at-once", type=_count, default=1, metavar="N", help="cases side by side (1)")
    add("--junit", type=Path, metavar="FILE", help="write a report as JUnit XML")
    add("--html", type=Path, metavar="FILE", help="write a report as a page")
    add("--exhaust", action="store_true", help="also use up limits of this address, for an hour")


def _of_the_server(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--node", action="append", default=[], type=_url, metavar="URL", help="another node")
    add("--origin", type=_url, help="PUBLIC_URL of the server, if it is not the URL")
    add(
        "--admin-key",
        default=os.environ.get("CONFORMANCE_ADMIN_KEY"),
        metavar="KEY",
        help="API key with all scopes; also CONFORMANCE_ADMIN_KEY",
    )
    add(
        "--admin-token",
        default=os.environ.get("CONFORMANCE_ADMIN_TOKEN"),
        metavar="TOKEN",
        help="an administrator's access token; also CONFORMANCE_ADMIN_TOKEN",
    )
    add(
        "--first-account",
        action="store_true",
        help="the server has no accounts: become its administrator and make both",
    )
    add("--allowance", type=_seconds, default=1.0, metavar="SECONDS", help="for each bound (1)")
    add(
        "--patience",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="for what has no bound (10)",
    )
    add("--ca-file", type=Path, metavar="FILE", help="certificates to trust, not the system's")


def _of_its_settings(group: argparse._ArgumentGroup) -> None:
    usual = Target(("",), "")

    def add(option: str, default: int, name: str) -> None:
        text = f"{name} ({default})"
        group.add_argument(option, type=_number, default=default, metavar="N", help=text)

    group.add_argument(
        "--join-timeout", type=_seconds, default=5.0, metavar="SECONDS", help="JOIN_TIMEOUT_SECONDS"
    )
    group.add_argument(
        "--step-up-seconds", type=_seconds, default=900.0, metavar="SECONDS", help="STEP_UP_SECONDS"
    )
    add("--max-unjoined", usual.max_unjoined, "MAX_UNJOINED_PER_ADDRESS")
    add("--max-sockets", usual.max_sockets, "MAX_SOCKETS_PER_USER")
    add("--max-sessions", usual.max_sessions, "MAX_SESSIONS_PER_USER")
    add("--limit-signins", usual.limit_signins, "LIMIT_SIGNINS")
    add("--limit-refreshes", usual.limit_refreshes, "LIMIT_REFRESHES")
    add("--limit-tickets", usual.limit_tickets, "LIMIT_TICKETS")
    add("--limit-wrong-signins", usual.limit_wrong_signins, "LIMIT_WRONG_SIGNINS")
    group.add_argument("--app-audience", metavar="NAME", help="one of APP_AUDIENCES")
    group.add_argument(
        "--email-domain", default="example.org", metavar="DOMAIN", help="one of EMAIL_DOMAINS"
    )


def _of_the_provider(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--provider", metavar="NAME", help="in OAUTH_PROVIDERS")
    add("--provider-listen", default="127.0.0.1:9411", metavar="HOST:PORT")
    add("--provider-issuer", metavar="URL", help="ISSUER, if it is not the above")
    add("--provider-client-id", default="conformance", metavar="ID")
    add("--provider-client-secret", default="conformance", metavar="SECRET")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} is not http://host or https://host")
    try:
        _ = parts.port
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} has no valid port") from None
    return text.rstrip("/")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (found := float(text)) < 86400:
            return found
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to 50")
    return int(text)


def target(of: argparse.ArgumentParser, given: argparse.Namespace) -> Target:
    """The target that the options describe. A wrong one ends the process with status 2."""
    if given.url is None:
        of.error("the URL of the server is missing, such as https://usher.example")
    for file in (given.junit, given.html):
        if file is not None and not file.parent.is_dir():
            of.error(f"{file}: there is no such folder")
    return Target(
        nodes=(given.url, *given.node),
        origin=origin_of(given.origin or given.url),
        public_url=given.origin or "",
        admin_key=given.admin_key or None,
        admin_token=given.admin_token or None,
        provider=_provider(of, given) if given.provider else None,
        allowance=given.allowance,
        patience=given.patience,
        timeout=given.patience,
        join_timeout=given.join_timeout,
        max_unjoined=given.max_unjoined,
        max_sockets=given.max_sockets,
        max_sessions=given.max_sessions,
        limit_signins=given.limit_signins,
        limit_refreshes=given.limit_refreshes,
        limit_tickets=given.limit_tickets,
        limit_wrong_signins=given.limit_wrong_signins,
        step_up_seconds=given.step_up_seconds,
        app_audience=given.app_audience,
        exhaust=given.exhaust,
        email_domain=given.email_domain,
        tls=_tls(of, given.ca_file),
    )


def _provider(of: argparse.ArgumentParser, given: argparse.Namespace) -> ProviderSettings:
    host, _, port = given.provider_listen.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        of.error(f"--provider-listen: {given.provider_listen!r} is not HOST:PORT")
    return ProviderSettings(
        given.provider,
        host,
        int(port),
        given.provider_issuer or "",
        given.provider_client_id,
        given.provider_client_secret,
    )


def _tls(of: argparse.ArgumentParser, ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        of.error(f"--ca-file {ca_file}: {error.strerror or error}")
