"""The table of settings: name, reader, default and meaning of each.

--help and validation use it. A test compares the table in the README with it.
"""

from __future__ import annotations

from typing import Any

from services.claims import MAX_TTL_SECONDS
from services.settings import values
from services.settings.branding import DEFAULT_NAME, TAKES_LOGO
from services.settings.limits import LIMIT_SETTINGS
from services.settings.providers import provider_names
from services.settings.row import Setting
from services.settings.smtp import TAKES_SMTP, mail_from, smtp_url

MINUTE, DAY = 60, 86_400
MIN_SECONDS = 0.1
"""A shorter lifetime is of no use, and is less than the resolution of `iat` and `exp`."""

HOST = Setting("HOST", values.host, "127.0.0.1", "address or name to listen on")
PORT = Setting("PORT", values.port, "8888", "port to listen on; 0 for any free port")
DATA_DIR = Setting(
    "DATA_DIR", values.folder, "./data", "folder of the embedded database, Redis and keys"
)
DATABASE_URL = Setting(
    "DATABASE_URL", values.database_url, None, values.TAKES_DATABASE, "SQLite in DATA_DIR", True
)
REDIS_URL = Setting(
    "REDIS_URL", values.redis_url, None, values.TAKES_REDIS, "embedded Redis in DATA_DIR", True
)
REDIS_MEMORY_BYTES = Setting(
    "REDIS_MEMORY_BYTES",
    values.none_or_count(32 * 1024 * 1024, 99_999_999_999),
    None,
    "how much memory the embedded Redis may use, in bytes; 0 for no limit",
    "half of the memory of the machine or container",
)
JWT_SECRETS = Setting(
    "JWT_SECRETS",
    values.jwt_secrets,
    None,
    "HS256 secrets of 32 bytes or more, comma-separated, newest first",
    "generated in DATA_DIR",
    True,
    keeps_space=True,
)
ENCRYPTION_KEYS = Setting(
    "ENCRYPTION_KEYS",
    values.encryption_keys,
    None,
    "Fernet keys, comma-separated, newest first",
    "generated in DATA_DIR",
    True,
)
ACCESS_TOKEN_TTL = Setting(
    "ACCESS_TOKEN_TTL_SECONDS",
    values.seconds(MIN_SECONDS, MAX_TTL_SECONDS),
    "900",
    "lifetime of an access token, in seconds",
)
REFRESH_TOKEN_TTL = Setting(
    "REFRESH_TOKEN_TTL_SECONDS",
    values.seconds(MIN_SECONDS, 365 * DAY),
    str(14 * DAY),
    "lifetime of a refresh token, in seconds; restarts with each refresh",
    f"{14 * DAY}, 14 days",
)
SESSION_LIFETIME = Setting(
    "SESSION_LIFETIME_SECONDS",
    values.seconds(MIN_SECONDS, 2 * 365 * DAY),
    str(30 * DAY),
    "absolute lifetime of a login session, in seconds",
    f"{30 * DAY}, 30 days",
)
TICKET_TTL = Setting(
    "TICKET_TTL_SECONDS",
    values.seconds(MIN_SECONDS, 10 * MINUTE),
    "30",
    "lifetime of a WebSocket ticket, in seconds",
)
STEP_UP = Setting(
    "STEP_UP_SECONDS",
    values.seconds(1, DAY),
    "900",
    "how long a sign-in or a step-up counts for calls and rooms that require a recent one, in "
    "seconds",
)
JOIN_TIMEOUT = Setting(
    "JOIN_TIMEOUT_SECONDS",
    values.seconds(MIN_SECONDS, 10 * MINUTE),
    "5",
    "how long a socket may stay open without user-join, in seconds",
)
LEASE = Setting(
    "LEASE_SECONDS",
    values.seconds(3, 10 * MINUTE),
    "30",
    "how long sockets stay open on a node that cannot read revocations, in seconds",
)
MAX_SESSIONS = Setting(
    "MAX_SESSIONS_PER_USER",
    values.count(1, 100_000),
    "100",
    "login sessions of a user at one time; a new one ends the least recently used",
)
HISTORY_MESSAGES = Setting(
    "HISTORY_MESSAGES",
    values.count(1, 1_000_000),
    "1000",
    "how many messages of a room are kept as history, approximately",
)
HISTORY_BYTES = Setting(
    "HISTORY_BYTES",
    values.count(65_536, 10_000_000_000),
    "1048576",
    "how many bytes of one user's messages above 1 KiB are kept in the history of a room",
)
HISTORY_SECONDS = Setting(
    "HISTORY_SECONDS",
    values.seconds(1, 365 * DAY),
    str(DAY),
    "how long messages of a room are kept as history, in seconds",
    f"{DAY}, one day",
)
PUBLIC_URL = Setting(
    "PUBLIC_URL",
    values.public_url,
    None,
    "URL at which browsers reach the server, perhaps below a path of its host "
    "(https://example.org/usher); its own origin and the token issuer",
    "http://HOST:PORT",
)
PUBLIC_URL_PATH = Setting(
    "PUBLIC_URL_PATH",
    values.choice("kept", "stripped"),
    "kept",
    "what the proxy in front does with the path of PUBLIC_URL: kept (it passes requests on with "
    "it) or stripped (without it)",
)
ALLOWED_ORIGINS = Setting(
    "ALLOWED_ORIGINS",
    values.origins,
    "",
    "other web origins that may use the server, comma-separated",
    "none",
    is_list=True,
)
TRUSTED_PROXIES = Setting(
    "TRUSTED_PROXIES",
    values.networks,
    "",
    "addresses or networks whose X-Forwarded-* headers are trusted, comma-separated",
    "none",
    is_list=True,
)
PROXY_PROTOCOL = Setting(
    "PROXY_PROTOCOL",
    values.choice("off", "on"),
    "off",
    "whether connections from TRUSTED_PROXIES begin with a PROXY header (version 1 or 2): on or "
    "off; for proxies that forward bytes, not HTTP requests",
)
LIMIT_SIGNUPS = Setting(
    "LIMIT_SIGNUPS",
    values.count(0, values.MAX_LIMIT),
    "60",
    "sign-ups per address (IPv6: /64) and hour; 0 for no limit",
)
LIMIT_WRONG_SIGNINS = Setting(
    "LIMIT_WRONG_SIGNINS",
    values.count(0, values.MAX_LIMIT),
    "100",
    "failed sign-ins per address and hour, and as many invalid refresh tokens and invalid tickets; "
    "0 for no limit",
)
LIMIT_SIGNINS = Setting(
    "LIMIT_SIGNINS",
    values.count(0, values.MAX_LIMIT),
    "60",
    "sign-ins per user and hour; 0 for no limit",
)
LIMIT_REFRESHES = Setting(
    "LIMIT_REFRESHES",
    values.count(0, values.MAX_LIMIT),
    "240",
    "refreshes per user and hour; 0 for no limit",
)
LIMIT_TICKETS = Setting(
    "LIMIT_TICKETS",
    values.count(0, values.MAX_LIMIT),
    "1200",
    "tickets per user and hour; 0 for no limit",
)
LIMIT_MAILS = Setting(
    "LIMIT_MAILS",
    values.count(0, values.MAX_LIMIT),
    "20",
    "e-mails that an address may cause per hour, a quarter of them to the same mailbox; 0 for no "
    "limit",
)
SMTP_URL = Setting(
    "SMTP_URL", smtp_url, None, TAKES_SMTP, "mails become files in DATA_DIR/mail", True
)
MAIL_FROM = Setting(
    "MAIL_FROM",
    mail_from,
    None,
    "whom mails come from: an address, or Name <address>; needed with SMTP_URL",
    "none",
)
EMAIL_VERIFICATION = Setting(
    "EMAIL_VERIFICATION",
    values.choice("off", "optional", "required"),
    "optional",
    "whether addresses are confirmed by mail: off, optional, or required (nobody signs in before)",
)
MAIL_TEMPLATES = Setting(
    "MAIL_TEMPLATES",
    values.folder,
    None,
    "folder with your own templates of mails; see docs/mail.md",
    "the bundled ones",
)
SIGNUP = Setting(
    "SIGNUP",
    values.choice("open", "invite", "closed"),
    "open",
    "who may create an account, by password or provider: open (anybody), invite (whoever has an "
    "invitation) or closed (nobody); the very first account can always be created",
)
EMAIL_DOMAINS = Setting(
    "EMAIL_DOMAINS",
    values.email_domains,
    "",
    "domains that the e-mail addresses of new accounts may have, comma-separated",
    "any",
    is_list=True,
)
OAUTH_PROVIDERS = Setting(
    "OAUTH_PROVIDERS",
    provider_names,
    "",
    "google, github, microsoft or other names, comma-separated; each with "
    "USHER_OAUTH_<NAME>_CLIENT_ID and _CLIENT_SECRET, others also _ISSUER; see docs/oauth.md",
    "none",
    is_list=True,
)
APP_AUDIENCES = Setting(
    "APP_AUDIENCES",
    values.audiences,
    "",
    "names of your backends for which users may get app tokens, comma-separated",
    "none",
    is_list=True,
)
NATIVE_REDIRECT_URIS = Setting(
    "NATIVE_REDIRECT_URIS",
    values.native_redirect_uris,
    "",
    "redirect URIs of native apps beside loopback addresses: exact URIs such as "
    "com.example.app:/callback, comma-separated",
    "none",
    is_list=True,
)
APP_NAME = Setting(
    "APP_NAME",
    values.app_name,
    DEFAULT_NAME,
    "name of the app, shown on the sign-in pages",
)
APP_LOGO = Setting(
    "APP_LOGO",
    values.app_logo,
    None,
    f"logo on the sign-in pages: {TAKES_LOGO}",
    "Usher's own",
)
APP_ACCENT = Setting(
    "APP_ACCENT",
    values.app_accent,
    None,
    "colour of buttons and links on the sign-in pages, such as #0b5c63; links are darkened or "
    "lightened until they are readable",
    "a dark teal",
)
COOKIE_NAME_PREFIX = Setting(
    "COOKIE_NAME_PREFIX",
    values.cookie_prefix,
    None,
    "prefix of cookie names, so that two installations on one host do not share cookies",
    "none, or the path of PUBLIC_URL",
)
DRAIN_SECONDS = Setting(
    "DRAIN_SECONDS",
    values.seconds(MIN_SECONDS, 10 * MINUTE),
    "2",
    "how long a shutdown waits for pending requests and spreads the closing of sockets, in seconds",
)
LOG_FORMAT = Setting(
    "LOG_FORMAT", values.choice("text", "json"), "text", "format of the log on stderr: text or json"
)
WEBSOCKET = Setting(
    "WEBSOCKET",
    values.choice("direct", "tornado"),
    "direct",
    "how sockets are served: direct (frames on the raw socket) or tornado (its WebSocketHandler); "
    "TLS and COMPRESSION always use tornado",
)
COMPRESSION = Setting(
    "COMPRESSION",
    values.choice("off", "on"),
    "off",
    "permessage-deflate, if a client offers it: on or off",
)
MAX_COMPRESSED = Setting(
    "MAX_COMPRESSED_SOCKETS",
    values.count(1, 1_000_000),
    "1000",
    "sockets per node that may use compression at one time; each needs about 160 KiB",
)
PROCESSES = Setting(
    "PROCESSES",
    values.count(1, 256),
    "1",
    "server processes on the port, one for each core that Usher may use; they share the embedded "
    "database and Redis",
)
TLS_CERTIFICATE = Setting(
    "TLS_CERTIFICATE", values.folder, None, "PEM file of the certificate and its chain", "none"
)
TLS_KEY = Setting(
    "TLS_KEY", values.folder, None, "PEM file of the certificate's private key", "none"
)
AUDIT_RETENTION = Setting(
    "AUDIT_RETENTION_SECONDS",
    values.seconds(DAY, 10 * 365 * DAY),
    str(90 * DAY),
    "how long audit events are kept, in seconds",
    f"{90 * DAY}, 90 days",
)

WEBHOOK_PRIVATE = Setting(
    "WEBHOOK_PRIVATE",
    values.choice("off", "on"),
    "off",
    "whether webhooks may use private addresses and http:// URLs: on or off",
)
WEBHOOK_RETENTION = Setting(
    "WEBHOOK_RETENTION_SECONDS",
    values.seconds(60, 365 * DAY),
    str(7 * DAY),
    "how long webhook deliveries are kept after they succeeded or failed, in seconds",
    f"{7 * DAY}, 7 days",
)

SETTINGS: tuple[Setting[Any], ...] = (
    HOST,
    PORT,
    DATA_DIR,
    DATABASE_URL,
    REDIS_URL,
    REDIS_MEMORY_BYTES,
    JWT_SECRETS,
    ENCRYPTION_KEYS,
    ACCESS_TOKEN_TTL,
    REFRESH_TOKEN_TTL,
    SESSION_LIFETIME,
    TICKET_TTL,
    STEP_UP,
    JOIN_TIMEOUT,
    LEASE,
    MAX_SESSIONS,
    HISTORY_MESSAGES,
    HISTORY_BYTES,
    HISTORY_SECONDS,
    PUBLIC_URL,
    PUBLIC_URL_PATH,
    ALLOWED_ORIGINS,
    TRUSTED_PROXIES,
    PROXY_PROTOCOL,
    LIMIT_SIGNUPS,
    LIMIT_WRONG_SIGNINS,
    LIMIT_SIGNINS,
    LIMIT_REFRESHES,
    LIMIT_TICKETS,
    LIMIT_MAILS,
    SMTP_URL,
    MAIL_FROM,
    MAIL_TEMPLATES,
    EMAIL_VERIFICATION,
    SIGNUP,
    EMAIL_DOMAINS,
    OAUTH_PROVIDERS,
    APP_AUDIENCES,
    NATIVE_REDIRECT_URIS,
    APP_NAME,
    APP_LOGO,
    APP_ACCENT,
    COOKIE_NAME_PREFIX,
    DRAIN_SECONDS,
    LOG_FORMAT,
    AUDIT_RETENTION,
    WEBHOOK_PRIVATE,
    WEBHOOK_RETENTION,
    WEBSOCKET,
    COMPRESSION,
    MAX_COMPRESSED,
    PROCESSES,
    TLS_CERTIFICATE,
    TLS_KEY,
    *LIMIT_SETTINGS,
)
