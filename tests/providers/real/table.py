"""Generates the table of docs/oauth.md from runs."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from tests.providers.real.authlib_server import Authlib
from tests.providers.real.better_auth import BetterAuth
from tests.providers.real.canaille import Canaille
from tests.providers.real.flows import Outcome, run
from tests.providers.real.lemonldap import LemonLdap
from tests.providers.real.oauth_toolkit import DjangoOAuthToolkit
from tests.providers.real.oidc_provider import OidcProviderOfNpm
from tests.providers.real.provider import NAME, RealProvider
from tests.providers.real.workplace import Workplace
from tests.support.server import ROOT, Usher, free_port, usher

PROVIDERS: dict[str, type[RealProvider]] = {
    "oidc-provider": OidcProviderOfNpm,
    "better-auth": BetterAuth,
    "django-oauth-toolkit": DjangoOAuthToolkit,
    "canaille": Canaille,
    "authlib": Authlib,
    "lemonldap-ng": LemonLdap,
}
DOCUMENT = ROOT / "docs/oauth.md"
BEGIN, END = "<!-- made by `python -m tests.providers --write` -->", "<!-- end -->"
HEAD = (
    "provider", "client registered for", "Usher's settings", "sign-in", "refresh",
    "a dead refresh token", "back-channel logout", "signing out there", "tokens given back",
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 1 where a provider could not be run, or nobody could sign in."""
    parser = argparse.ArgumentParser(prog="python -m tests.providers")
    parser.add_argument("--write", action="store_true", help="put the table into docs/oauth.md")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROVIDERS))
    chosen = parser.parse_args(arguments)
    names = chosen.names or list(PROVIDERS)
    if unknown := set(names) - set(PROVIDERS):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PROVIDERS)}")
    rows, failed = {}, False
    for name in names:
        try:
            rows[name] = line_of(PROVIDERS[name], run_one(PROVIDERS[name]))
        except Exception:  # noqa: BLE001 - one that fails must not keep the others from being run
            traceback.print_exc()
            failed = True
        else:
            sys.stdout.write(f"{rows[name]}\n")
            sys.stdout.flush()
    if chosen.write:
        write(rows)
    return int(failed)


def run_one(kind: type[RealProvider]) -> Outcome:
    """Install one, run it beside an Usher, and go through every flow."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="usher-idp-") as folder,
        Workplace(Path(folder)) as place,
    ):
        provider = kind(place, free_port(), f"http://127.0.0.1:{port}")
        try:
            provider.start()
            with usher("sqlite", PORT=port, OAUTH_PROVIDERS=NAME, **reported(provider)) as server:
                return run_beside(provider, server)
        except BaseException:
            sys.stderr.write(place.said())
            raise


def run_beside(provider: RealProvider, server: Usher) -> Outcome:
    try:
        return run(provider, server)
    except BaseException:
        sys.stderr.write(server.log[-3000:])
        raise


def reported(provider: RealProvider) -> dict[str, object]:
    """Usher's settings of it."""
    needed = {
        "ISSUER": provider.issuer,
        "CLIENT_ID": provider.client_id,
        "CLIENT_SECRET": provider.client_secret,
    }
    return {f"OAUTH_{NAME.upper()}_{k}": v for k, v in {**provider.settings, **needed}.items()}


def line_of(kind: type[RealProvider], outcome: Outcome) -> str:
    settings = "; ".join(f"`{name}={value}`" for name, value in kind.settings.items()) or "none"
    cells = (f"{kind.title} ({kind.package})", kind.client, settings, *astuple(outcome))
    return "| " + " | ".join(cells) + " |"


def write(rows: dict[str, str]) -> None:
    """Put these rows into the document; the others stay as they are."""
    text = DOCUMENT.read_text("utf-8")
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    kept = {
        name: line
        for line in old.splitlines()
        for name, kind in PROVIDERS.items()
        if line.startswith(f"| {kind.title} (")
    }
    lines = kept | rows
    table = ["| " + " | ".join(HEAD) + " |", "|" + "-|" * len(HEAD)]
    table += [lines[name] for name in PROVIDERS if name in lines]
    DOCUMENT.write_text(f"{before}{BEGIN}\n" + "\n".join(table) + f"\n{END}{after}", "utf-8")
