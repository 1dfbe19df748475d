"""The start screen: where the server is, and what it uses."""

from __future__ import annotations

from services.composition.infrastructure import Infrastructure
from services.settings import settings
from services.settings.origins import Origins, http_origin


def welcome(
    infrastructure: Infrastructure, origins: Origins, port: int, anybody: bool, available: bool
) -> str:
    """The text for stdout.

    Args:
        anybody: whether there is an account.
        available: whether Redis answers.
    """
    chosen = infrastructure.settings
    opened = origins.opened(providers=bool(chosen.oauth_providers))
    lines = [
        f"  Usher {settings.VERSION} is ready",
        "",
        f"  Open      {opened}",
        f"  Socket    {'ws' + opened[4:]}/ws",
        f"  Data      {chosen.data_dir.resolve()}",
        f"  Database  {_database(infrastructure)}",
        f"  Redis     {_redis(infrastructure, available)}",
    ]
    if chosen.processes > 1:
        lines.append(f"  Processes {chosen.processes}")
    if chosen.smtp_url is None:
        lines.append(f"  Mail      no SMTP_URL: as files in {chosen.data_dir.resolve() / 'mail'}")
    listens = http_origin(chosen.host, port, "http" if chosen.tls_certificate is None else "https")
    if listens != opened:
        lines.insert(4, f"  Listens   {listens}")
    if not anybody:
        lines.append("  Accounts  none yet: the first to sign up becomes the administrator")
    return "\n".join(("", *lines, "", "  Stop with Ctrl+C.", ""))


def _redis(infrastructure: Infrastructure, available: bool) -> str:
    if infrastructure.redis is not None:
        text = "embedded, in the data folder"
    elif infrastructure.store.kind == "memory":
        text = "none found: in this process only (see the warning above)"
    else:
        text = "USHER_REDIS_URL"
    return text if available else f"{text}, not answering yet: the database is used instead"


def _database(infrastructure: Infrastructure) -> str:
    if infrastructure.database.kind == "postgresql":
        return "PostgreSQL"
    chosen = infrastructure.settings
    own = settings.embedded_database(chosen.data_dir) == chosen.database_url
    return "SQLite, in the data folder" if own else "SQLite, in the file of USHER_DATABASE_URL"
