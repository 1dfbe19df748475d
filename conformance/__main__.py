"""The command `python -m conformance URL`: see docs/conformance.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

from conformance.provider import running
from conformance.report import html, junit, line, summary
from conformance.runner import Report, run
from conformance.table import CASES, Case
from conformance.target import ProviderSettings, Target, origin_of
from conformance.verdict import Outcome

BROKEN = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if every promise that was checked is kept, 1 if one is not, 2 for wrong usage."""
    parser = _parser()
    given = parser.parse_args(arguments)
    cases = _chosen(given.only, given.leave_out)
    if not cases:
        parser.error("no case has such an id; --list shows them")
    if given.list:
        for case in cases:
            print(f"{case.id:26} {case.promise}  [{case.section}]")
        return 0
    if given.url is None:
        parser.error("the URL of the server is missing")
    report = _run(parser, _target(parser, given), cases)
    if given.junit is not None:
        given.junit.write_text(junit(report), "utf-8")
    if given.html is not None:
        given.html.write_text(html(report), "utf-8")
    failed = report.count(Outcome.BROKEN) or (given.strict and report.count(Outcome.NOT_RUN))
    return BROKEN if failed else 0


def _run(parser: argparse.ArgumentParser, target: Target, cases: list[Case]) -> Report:
    with ExitStack() as stack:
        provider = None
        if target.provider is not None:
            try:
                provider = stack.enter_context(running(target.provider))
            except OSError as error:
                parser.error(f"--provider-listen: {error}")
        report = asyncio.run(
            run(target, cases, provider, lambda result: print(line(result), flush=True))
        )
    print(summary(report))
    for address in report.left:
        print(f"not deleted: {address}", file=sys.stderr)
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description="Checks from outside whether a server keeps the promises of Usher's contract.",
        epilog="Exit status: 0 all kept, 1 a promise is broken, 2 wrong usage.",
    )
    add = parser.add_argument
    add("url", nargs="?", type=_url, help="of the server: https://usher.example")
    add("--node", action="append", default=[], type=_url, metavar="URL", help="another node")
    add("--origin", help="the server's own origin (PUBLIC_URL), if it is not the URL's")
    add(
        "--admin-key",
        default=os.environ.get("CONFORMANCE_ADMIN_KEY"),
        help="API key with all scopes; also CONFORMANCE_ADMIN_KEY",
    )
    add(
        "--admin-token",
        default=os.environ.get("CONFORMANCE_ADMIN_TOKEN"),
        help="an administrator's access token, to change roles; also CONFORMANCE_ADMIN_TOKEN",
    )
    add("--only", action="append", default=[], metavar="ID", help="case to run; * is a wildcard")
    add("--leave-out", action="append", default=[], metavar="ID", help="case not to run")
    add("--list", action="store_true", help="print the cases and exit")
    add("--strict", action="store_true", help="a case that could not be run is a failure")
    add("--junit", type=Path, metavar="FILE", help="write a report as JUnit XML")
    add("--html", type=Path, metavar="FILE", help="write a report as a page")
    add("--allowance", type=float, default=1.0, metavar="SECONDS", help="added to each bound (1)")
    add(
        "--patience", type=float, default=10.0, metavar="SECONDS", help="for what has no bound (10)"
    )
    add("--join-timeout", type=float, default=5.0, metavar="SECONDS", help="JOIN_TIMEOUT_SECONDS")
    add("--max-unjoined", type=int, default=500, metavar="N", help="MAX_UNJOINED_PER_ADDRESS")
    add("--max-sockets", type=int, default=200, metavar="N", help="MAX_SOCKETS_PER_USER")
    add("--email-domain", default="example.org", help="of the accounts that are made")
    add(
        "--ca-file", type=Path, metavar="FILE", help="certificates to trust instead of the system's"
    )
    provider = parser.add_argument_group(
        "the kit's OpenID provider, as the server is set up for it"
    )
    provider.add_argument("--provider", metavar="NAME", help="in OAUTH_PROVIDERS")
    provider.add_argument("--provider-listen", default="127.0.0.1:9411", metavar="HOST:PORT")
    provider.add_argument("--provider-issuer", metavar="URL", help="ISSUER, if it is not the above")
    provider.add_argument("--provider-client-id", default="conformance", metavar="ID")
    provider.add_argument("--provider-client-secret", default="conformance", metavar="SECRET")
    return parser


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} is not http://host or https://host")
    return text.rstrip("/")


def _chosen(only: list[str], leave_out: list[str]) -> list[Case]:
    def named(case: Case, patterns: list[str]) -> bool:
        return any(fnmatchcase(case.id, pattern) for pattern in patterns)

    wanted = [case for case in CASES if not only or named(case, only)]
    return [case for case in wanted if not named(case, leave_out)]


def _target(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Target:
    return Target(
        nodes=(given.url, *given.node),
        origin=given.origin or origin_of(given.url),
        admin_key=given.admin_key,
        admin_token=given.admin_token,
        provider=_provider(parser, given) if given.provider else None,
        allowance=given.allowance,
        patience=given.patience,
        join_timeout=given.join_timeout,
        max_unjoined=given.max_unjoined,
        max_sockets=given.max_sockets,
        email_domain=given.email_domain,
        tls=_tls(parser, given.ca_file),
    )


def _provider(parser: argparse.ArgumentParser, given: argparse.Namespace) -> ProviderSettings:
    host, _, port = given.provider_listen.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        parser.error(f"--provider-listen: {given.provider_listen!r} is not HOST:PORT")
    return ProviderSettings(
        given.provider,
        host,
        int(port),
        given.provider_issuer or f"http://{host}:{port}",
        given.provider_client_id,
        given.provider_client_secret,
    )


def _tls(parser: argparse.ArgumentParser, ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        parser.error(f"--ca-file: {error}")


if __name__ == "__main__":
    sys.exit(main())
