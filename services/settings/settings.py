"""Loads the settings once at start, from the environment and the command line.

Each setting is `USHER_<NAME>` in the environment and `--<name>` on the command line. The flag takes
precedence. An empty value is an error, except for a list, where it is the empty list: an empty
secret is usually a failed injection, not a request for the default.

An unknown `USHER_…` variable is a warning that names the nearest setting, not an error, because
orchestrators add variables of their own (Kubernetes: `USHER_SERVICE_HOST`). An unknown flag is an
error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NoReturn, cast
from urllib.parse import urlsplit

import msgspec

from services.errors import SettingError
from services.secret import Secret
from services.settings import table
from services.settings.branding import DEFAULT_NAME, Colour, Logo, read_logo
from services.settings.command_line import PROGRAM
from services.settings.data_dir import prepare_data_dir
from services.settings.generated_keys import (
    ENCRYPTION_KEYS_FILE,
    JWT_SECRETS_FILE,
    stored_encryption_keys,
    stored_jwt_secrets,
)
from services.settings.limits import Limits, read_limits
from services.settings.origins import WILDCARD_HOSTS, cookie_prefix_of, is_loopback
from services.settings.providers import KNOWN_PROVIDERS, OAuthProvider, provider_settings
from services.settings.proxies import IPNetwork
from services.settings.row import Setting, ShownSetting
from services.settings.smtp import TAKES_FROM, Sender, SmtpServer
from services.settings.sources import Sources

PublicUrlPath = Literal["kept", "stripped"]
SignupMode = Literal["open", "invite", "closed"]
VerificationMode = Literal["off", "optional", "required"]
VERSION = "1.1.0"
"""Of this installation. `python -m deploy.version NEW` writes it here, into the clients and the
chart."""
EXIT_STATUS = 2
DATABASE_FILE = "usher.db"


class Settings(Limits, frozen=True, kw_only=True):
    """Every setting, validated. A field is the setting's name in lower case.

    Attributes:
        database_url: the URL of the embedded SQLite file if none is set. A Secret, as it may hold a
            password.
        redis_url: None for the embedded Redis in `data_dir`. A Secret, as it may hold a password.
        jwt_secrets: newest first.
        encryption_keys: Fernet keys, newest first.
        public_url: an origin, perhaps with a path, or None; services/settings/origins.py has the
            default.
        public_url_path: what the proxy does with that path.
        allowed_origins: in normal form.
        key_files: files of keys that were generated in DATA_DIR.
        embedded: whether the database or Redis is embedded; `data_dir` then needs a DataDirLock.
        warnings: for the log, which is set up after the settings are loaded.
    """

    host: str
    port: int
    data_dir: Path
    database_url: Secret
    redis_url: Secret | None
    jwt_secrets: tuple[Secret, ...]
    encryption_keys: tuple[Secret, ...]
    access_token_ttl_seconds: float
    refresh_token_ttl_seconds: float
    session_lifetime_seconds: float
    ticket_ttl_seconds: float
    join_timeout_seconds: float
    lease_seconds: float
    max_sessions_per_user: int
    history_messages: int
    history_bytes: int
    history_seconds: float
    public_url: str | None
    public_url_path: PublicUrlPath = "kept"
    allowed_origins: tuple[str, ...]
    trusted_proxies: tuple[IPNetwork, ...]
    limit_signups: int
    limit_wrong_signins: int
    limit_signins: int
    limit_refreshes: int
    limit_tickets: int
    limit_mails: int
    oauth_providers: tuple[OAuthProvider, ...]
    embedded: bool
    smtp_url: SmtpServer | None = None
    mail_from: Sender | None = None
    mail_templates: Path | None = None
    email_verification: VerificationMode = "optional"
    step_up_seconds: float = 900.0
    proxy_protocol: bool = False
    signup: SignupMode = "open"
    email_domains: tuple[str, ...] = ()
    app_audiences: tuple[str, ...] = ()
    native_redirect_uris: tuple[str, ...] = ()
    app_name: str = DEFAULT_NAME
    app_logo: Logo | None = None
    app_accent: Colour | None = None
    cookie_name_prefix: str = ""
    drain_seconds: float = 2.0
    log_format: str = "text"
    audit_retention_seconds: float = 90 * 86_400.0
    webhook_private: bool = False
    webhook_retention_seconds: float = 7 * 86_400.0
    websocket: str = "direct"
    compression: str = "off"
    max_compressed_sockets: int = 1000
    redis_memory_bytes: int | None = None
    processes: int = 1
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    key_files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    shown: tuple[ShownSetting, ...] = ()

    @property
    def path_prefix(self) -> str:
        """What the path of every request begins with, `/usher` say: that of PUBLIC_URL, unless the
        proxy strips it."""
        url = self.public_url if self.public_url_path == "kept" else None
        return urlsplit(url).path if url else ""

    @property
    def through_tornado(self) -> bool:
        """Whether Tornado's WebSocketHandler serves the sockets: by WEBSOCKET, or because of
        COMPRESSION or TLS."""
        return (
            self.websocket == "tornado"
            or self.compression == "on"
            or self.tls_certificate is not None
        )


def load(environ: Mapping[str, str], argv: Sequence[str], program: str = PROGRAM) -> Settings:
    """Read and check every setting, then create DATA_DIR and the keys if they are needed.

    If a setting is invalid, nothing is printed and nothing is created.

    Args:
        environ: the environment, usually `os.environ`.
        argv: the command line without the program's name and without a command.
        program: the name of Usher for --help.

    Raises:
        SettingError: a setting is invalid; see `exit_with`.
        SystemExit: after --help or --version, with status 0.
    """
    sources = Sources(environ, argv, VERSION, program)
    database_url = sources.optional(table.DATABASE_URL)
    redis_url = sources.optional(table.REDIS_URL)
    public_url = sources.optional(table.PUBLIC_URL)
    settings = Settings(
        host=sources.value(table.HOST),
        port=sources.value(table.PORT),
        data_dir=sources.value(table.DATA_DIR),
        database_url=database_url or embedded_database(sources.value(table.DATA_DIR)),
        redis_url=redis_url,
        redis_memory_bytes=sources.optional(table.REDIS_MEMORY_BYTES),
        jwt_secrets=sources.optional(table.JWT_SECRETS) or (),
        encryption_keys=sources.optional(table.ENCRYPTION_KEYS) or (),
        access_token_ttl_seconds=sources.value(table.ACCESS_TOKEN_TTL),
        refresh_token_ttl_seconds=sources.value(table.REFRESH_TOKEN_TTL),
        session_lifetime_seconds=sources.value(table.SESSION_LIFETIME),
        ticket_ttl_seconds=sources.value(table.TICKET_TTL),
        step_up_seconds=sources.value(table.STEP_UP),
        join_timeout_seconds=sources.value(table.JOIN_TIMEOUT),
        lease_seconds=sources.value(table.LEASE),
        max_sessions_per_user=sources.value(table.MAX_SESSIONS),
        history_messages=sources.value(table.HISTORY_MESSAGES),
        history_bytes=sources.value(table.HISTORY_BYTES),
        history_seconds=sources.value(table.HISTORY_SECONDS),
        public_url=public_url,
        public_url_path=cast("PublicUrlPath", sources.value(table.PUBLIC_URL_PATH)),
        allowed_origins=sources.value(table.ALLOWED_ORIGINS),
        trusted_proxies=sources.value(table.TRUSTED_PROXIES),
        proxy_protocol=sources.value(table.PROXY_PROTOCOL) == "on",
        limit_signups=sources.value(table.LIMIT_SIGNUPS),
        limit_wrong_signins=sources.value(table.LIMIT_WRONG_SIGNINS),
        limit_signins=sources.value(table.LIMIT_SIGNINS),
        limit_refreshes=sources.value(table.LIMIT_REFRESHES),
        limit_tickets=sources.value(table.LIMIT_TICKETS),
        limit_mails=sources.value(table.LIMIT_MAILS),
        oauth_providers=tuple(
            _provider(sources, name) for name in sources.value(table.OAUTH_PROVIDERS)
        ),
        smtp_url=sources.optional(table.SMTP_URL),
        mail_from=sources.optional(table.MAIL_FROM),
        mail_templates=sources.optional(table.MAIL_TEMPLATES),
        email_verification=cast("VerificationMode", sources.value(table.EMAIL_VERIFICATION)),
        signup=cast("SignupMode", sources.value(table.SIGNUP)),
        email_domains=sources.value(table.EMAIL_DOMAINS),
        app_audiences=sources.value(table.APP_AUDIENCES),
        native_redirect_uris=sources.value(table.NATIVE_REDIRECT_URIS),
        app_name=sources.value(table.APP_NAME),
        app_logo=_logo(sources),
        app_accent=sources.optional(table.APP_ACCENT),
        cookie_name_prefix=(
            sources.optional(table.COOKIE_NAME_PREFIX) or cookie_prefix_of(public_url)
        ),
        drain_seconds=sources.value(table.DRAIN_SECONDS),
        log_format=sources.value(table.LOG_FORMAT),
        audit_retention_seconds=sources.value(table.AUDIT_RETENTION),
        webhook_private=sources.value(table.WEBHOOK_PRIVATE) == "on",
        webhook_retention_seconds=sources.value(table.WEBHOOK_RETENTION),
        websocket=sources.value(table.WEBSOCKET),
        compression=sources.value(table.COMPRESSION),
        max_compressed_sockets=sources.value(table.MAX_COMPRESSED),
        processes=sources.value(table.PROCESSES),
        tls_certificate=sources.optional(table.TLS_CERTIFICATE),
        tls_key=sources.optional(table.TLS_KEY),
        shown=tuple(sources.shown()),
        embedded=database_url is None or redis_url is None,
        **read_limits(sources.value),
    )
    _check_pairs(settings, sources)
    sources.refuse_unknown_of_providers()
    warnings = [*sources.warnings(), *_warnings_for(settings)]
    return _with_data_dir(settings, warnings, sources.name(table.DATA_DIR))


def _check_pairs(settings: Settings, sources: Sources) -> None:
    """Check the settings that need another one."""
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        missing = table.TLS_KEY if settings.tls_key is None else table.TLS_CERTIFICATE
        raise sources.missing(missing, f"{missing.meaning}; TLS needs both")
    if settings.smtp_url is not None and settings.mail_from is None:
        raise sources.missing(table.MAIL_FROM, f"{TAKES_FROM}; SMTP_URL needs it")
    if settings.proxy_protocol and not settings.trusted_proxies:
        takes = f"{table.TRUSTED_PROXIES.meaning}; PROXY_PROTOCOL=on needs it"
        raise sources.missing(table.TRUSTED_PROXIES, takes)


def error_line(error: SettingError) -> str:
    """The one-line message for an invalid setting: its name, the value, and what it accepts."""
    text = f"usher: {error.name}: got {error.got}, takes {error.takes}"
    # Keeps it on one line, and keeps terminal escape sequences out.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def exit_with(error: SettingError) -> NoReturn:
    """Print the error on stderr and exit with status 2.

    Raises:
        SystemExit: always.
    """
    line = error_line(error) + "\n"
    sys.stderr.write(line.encode("ascii", "backslashreplace").decode("ascii"))
    raise SystemExit(EXIT_STATUS)


def embedded_database(data_dir: Path) -> Secret:
    """The default of DATABASE_URL: an SQLite file in DATA_DIR."""
    return Secret(f"sqlite:///{data_dir / DATABASE_FILE}")


def _logo(sources: Sources) -> Logo | None:
    text = sources.optional(table.APP_LOGO)
    if text is None:
        return None
    return read_logo(text, sources.name(table.APP_LOGO), sources.optional(table.PUBLIC_URL))


def _provider(sources: Sources, name: str) -> OAuthProvider:
    rows = provider_settings(name)

    def needed(setting: Setting[Secret] | Setting[str], why: str) -> SettingError:
        return sources.missing(setting, f"{setting.meaning}, as {name} is {why}")

    known = name in KNOWN_PROVIDERS
    issuer, role_claim = sources.optional(rows.issuer), sources.optional(rows.role_claim)
    if issuer is None and not known:
        raise needed(rows.issuer, f"not a built-in provider ({', '.join(KNOWN_PROVIDERS)})")
    client_id = sources.optional(rows.client_id)
    client_secret = sources.optional(rows.client_secret)
    if client_id is None:
        raise needed(rows.client_id, "in OAUTH_PROVIDERS")
    if client_secret is None:
        raise needed(rows.client_secret, "in OAUTH_PROVIDERS")
    roles = sources.value(rows.roles)
    # One without the other would unexpectedly admit everybody, or nobody.
    if bool(role_claim) != bool(roles):
        if role_claim:
            raise sources.missing(rows.roles, f"{rows.roles.meaning}; ROLE_CLAIM needs it")
        raise sources.missing(rows.role_claim, f"{rows.role_claim.meaning}; ROLES needs it")
    return OAuthProvider(
        name=name,
        issuer=issuer,
        client_id=client_id,
        client_secret=client_secret,
        scopes=sources.value(rows.scopes),
        title=sources.optional(rows.title) or "",
        signup=sources.value(rows.signup),
        email_domains=sources.value(rows.email_domains),
        role_claim=role_claim or "",
        roles=roles,
        parameters=sources.value(rows.parameters),
        untyped_logout=sources.value(rows.untyped_logout),
        client_auth=sources.optional(rows.client_auth),
        logout_without_exp=sources.value(rows.logout_without_exp),
        refused_seconds=sources.value(rows.refused_seconds),
        former_issuer=sources.optional(rows.former_issuer),
        email_claim=sources.optional(rows.email_claim) or "",
        metadata_url=sources.optional(rows.metadata_url),
        logout_parameters=sources.value(rows.logout_parameters),
    )


def _warnings_for(settings: Settings) -> list[str]:
    """Warnings about values that are allowed but rarely intended."""
    cautions = []
    url = settings.public_url
    if url and url.startswith("http://") and not is_loopback(_host_of(url)):
        cautions.append("PUBLIC_URL is http://: passwords and cookies are sent in clear text")
    if url is None and settings.host in WILDCARD_HOSTS:
        cautions.append(
            f"HOST is {settings.host} and PUBLIC_URL is not set: only pages opened at "
            f"{WILDCARD_HOSTS[settings.host]} or localhost can sign in; set PUBLIC_URL to the "
            "address that browsers use"
        )
    if settings.public_url_path == "stripped" and not (url and urlsplit(url).path):
        cautions.append("PUBLIC_URL_PATH is stripped, and PUBLIC_URL has no path: it has no effect")
    smtp = settings.smtp_url
    if smtp is not None and smtp.tls == "none" and not is_loopback(smtp.host):
        cautions.append(
            "SMTP_URL has starttls=off: mails and their links cross the network in clear"
        )
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        cautions.append("TRUSTED_PROXIES contains every address: any client can forge its own")
    if settings.email_domains and settings.email_verification != "required":
        cautions.append(
            "EMAIL_DOMAINS is set and EMAIL_VERIFICATION is not required: anybody can sign up "
            "with a password and an address of these domains that is not theirs"
        )
    return cautions


def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def _with_data_dir(settings: Settings, warnings: list[str], name: str) -> Settings:
    generated = not settings.jwt_secrets or not settings.encryption_keys
    if generated or settings.embedded:
        warnings += prepare_data_dir(settings.data_dir, name)
    jwt_secrets = settings.jwt_secrets or _keys(stored_jwt_secrets, settings, warnings)
    encryption_keys = settings.encryption_keys or _keys(stored_encryption_keys, settings, warnings)
    made = (
        (settings.jwt_secrets, JWT_SECRETS_FILE),
        (settings.encryption_keys, ENCRYPTION_KEYS_FILE),
    )
    return msgspec.structs.replace(
        settings,
        jwt_secrets=jwt_secrets,
        encryption_keys=encryption_keys,
        key_files=tuple(settings.data_dir / name for given, name in made if not given),
        warnings=tuple(warnings),
    )


def _keys(
    stored: Callable[[Path], tuple[tuple[Secret, ...], list[str]]],
    settings: Settings,
    warnings: list[str],
) -> tuple[Secret, ...]:
    keys, notes = stored(settings.data_dir)
    warnings += notes
    return keys
