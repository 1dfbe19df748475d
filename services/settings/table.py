"""The table of settings: name, reader, default, meaning. One row each, nothing else.

--help, validation and the table in the README (compared by a test) all come from here.
"""

from __future__ import annotations

from typing import Any

from services.claims import MAX_TTL_SECONDS
from services.settings import values
from services.settings.branding import DEFAULT_NAME, TAKES_LOGO
from services.settings.limits import LIMIT_SETTINGS
from services.settings.providers import provider_names
from services.settings.row import Setting

MINUTE, DAY = 60, 86_400
LEAST_SECONDS = 0.1
"""Shorter lives are of no use, and would vanish in the rounding of `iat` and `exp`."""

HOST = Setting("HOST", values.host, "127.0.0.1", "address or name to listen on")
PORT = Setting("PORT", values.port, "8888", "port to listen on; 0 for any free one")
DATA_DIR = Setting(
    "DATA_DIR", values.folder, "./data", "folder of the embedded database, Redis and keys"
)
DATABASE_URL = Setting(
    "DATABASE_URL", values.database_url, None, values.TAKES_DATABASE, "SQLite in DATA_DIR", True
)
REDIS_URL = Setting(
    "REDIS_URL", values.redis_url, None, values.TAKES_REDIS, "embedded Redis in DATA_DIR", True
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
    values.seconds(LEAST_SECONDS, MAX_TTL_SECONDS),
    "900",
    "life of an access token, in seconds",
)
REFRESH_TOKEN_TTL = Setting(
    "REFRESH_TOKEN_TTL_SECONDS",
    values.seconds(LEAST_SECONDS, 365 * DAY),
    str(14 * DAY),
    "life of a refresh token, in seconds; restarts with each refresh",
    f"{14 * DAY}, 14 days",
)
SESSION_LIFETIME = Setting(
    "SESSION_LIFETIME_SECONDS",
    values.seconds(LEAST_SECONDS, 2 * 365 * DAY),
    str(30 * DAY),
    "absolute life of a login session, in seconds",
    f"{30 * DAY}, 30 days",
)
TICKET_TTL = Setting(
    "TICKET_TTL_SECONDS",
    values.seconds(LEAST_SECONDS, 10 * MINUTE),
    "30",
    "life of a WebSocket ticket, in seconds",
)
STEP_UP = Setting(
    "STEP_UP_SECONDS",
    values.seconds(1, DAY),
    "900",
    "how long a sign-in, or a step-up, counts for acts and rooms that ask for one, in seconds",
)
JOIN_TIMEOUT = Setting(
    "JOIN_TIMEOUT_SECONDS",
    values.seconds(LEAST_SECONDS, 10 * MINUTE),
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
    "login sessions of one user at one time; a new one ends the one longest unused",
)
HISTORY_MESSAGES = Setting(
    "HISTORY_MESSAGES",
    values.count(1, 1_000_000),
    "1000",
    "how many messages of a room are kept as history, approximately",
)
HISTORY_SECONDS = Setting(
    "HISTORY_SECONDS",
    values.seconds(1, 365 * DAY),
    str(DAY),
    "how long messages of a room are kept for who was away, in seconds",
    f"{DAY}, one day",
)
PUBLIC_URL = Setting(
    "PUBLIC_URL",
    values.public_url,
    None,
    "where browsers reach the server; own origin and token issuer",
    "http://HOST:PORT",
)
ALLOWED_ORIGINS = Setting(
    "ALLOWED_ORIGINS",
    values.origins,
    "",
    "other web origins that may use it, comma-separated",
    "none",
    is_list=True,
)
TRUSTED_PROXIES = Setting(
    "TRUSTED_PROXIES",
    values.networks,
    "",
    "addresses or networks whose X-Forwarded-* count, comma-separated",
    "none",
    is_list=True,
)
LIMIT_SIGNUPS = Setting(
    "LIMIT_SIGNUPS",
    values.count(0, values.MAX_LIMIT),
    "60",
    "sign-ups of one address (IPv6: the /64) in an hour; 0 for any number",
)
LIMIT_WRONG_SIGNINS = Setting(
    "LIMIT_WRONG_SIGNINS",
    values.count(0, values.MAX_LIMIT),
    "100",
    "wrong sign-ins of one address in an hour, and as many refresh tokens or tickets that are "
    "none; 0 for any number",
)
LIMIT_SIGNINS = Setting(
    "LIMIT_SIGNINS",
    values.count(0, values.MAX_LIMIT),
    "60",
    "sign-ins of one user in an hour; 0 for any number",
)
LIMIT_REFRESHES = Setting(
    "LIMIT_REFRESHES",
    values.count(0, values.MAX_LIMIT),
    "240",
    "refreshes of one user in an hour; 0 for any number",
)
LIMIT_TICKETS = Setting(
    "LIMIT_TICKETS",
    values.count(0, values.MAX_LIMIT),
    "1200",
    "tickets of one user in an hour; 0 for any number",
)
LIMIT_MAILS = Setting(
    "LIMIT_MAILS",
    values.count(0, values.MAX_LIMIT),
    "20",
    "mails that one address asks for in an hour, a quarter of them to one mailbox; 0 for any "
    "number",
)
SIGNUP = Setting(
    "SIGNUP",
    values.choice("open", "invite", "closed"),
    "open",
    "who may open an account, by password or provider: open (anybody), invite (whoever has an "
    "invitation) or closed (nobody); the very first account can always be opened",
)
EMAIL_DOMAINS = Setting(
    "EMAIL_DOMAINS",
    values.email_domains,
    "",
    "domains whose e-mail addresses may be those of new accounts, comma-separated",
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
    "names of your own backends, for which a user may get an app token, comma-separated",
    "none",
    is_list=True,
)
NATIVE_REDIRECT_URIS = Setting(
    "NATIVE_REDIRECT_URIS",
    values.native_redirect_uris,
    "",
    "where native apps may be sent back to beside loopback addresses: exact URIs such as "
    "com.example.app:/callback, comma-separated",
    "none",
    is_list=True,
)
APP_NAME = Setting(
    "APP_NAME",
    values.app_name,
    DEFAULT_NAME,
    "what the pages that people sign in on are headed with",
)
APP_LOGO = Setting(
    "APP_LOGO",
    values.app_logo,
    None,
    f"logo of these pages: {TAKES_LOGO}",
    "a mark of Usher's own",
)
APP_ACCENT = Setting(
    "APP_ACCENT",
    values.app_accent,
    None,
    "colour of the buttons and links of these pages, such as #0b5c63; links are darkened or "
    "lightened as far as reading takes it",
    "a dark teal",
)
COOKIE_NAME_PREFIX = Setting(
    "COOKIE_NAME_PREFIX",
    values.cookie_prefix,
    None,
    "put in front of cookie names, so that two installations on one host do not share cookies",
    "none",
)
DRAIN_SECONDS = Setting(
    "DRAIN_SECONDS",
    values.seconds(LEAST_SECONDS, 10 * MINUTE),
    "2",
    "how long a stop answers requests under way and spreads the closing of sockets, in seconds",
)
LOG_FORMAT = Setting(
    "LOG_FORMAT", values.choice("text", "json"), "text", "of the log on stderr: text or json"
)
WEBSOCKET = Setting(
    "WEBSOCKET",
    values.choice("direct", "tornado"),
    "direct",
    "how sockets are served: direct (frames on the raw socket) or tornado (its WebSocketHandler); "
    "with TLS or COMPRESSION it is tornado by itself",
)
COMPRESSION = Setting(
    "COMPRESSION",
    values.choice("off", "on"),
    "off",
    "permessage-deflate where a client offers it: on or off",
)
MAX_COMPRESSED = Setting(
    "MAX_COMPRESSED_SOCKETS",
    values.count(1, 1_000_000),
    "1000",
    "sockets of a node that may be compressed at one time; each takes about 160 KiB",
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
    "how long rows of the audit trail are kept, in seconds",
    f"{90 * DAY}, 90 days",
)

WEBHOOK_PRIVATE = Setting(
    "WEBHOOK_PRIVATE",
    values.choice("off", "on"),
    "off",
    "whether webhooks may be at private addresses, and at http:// URLs: on or off",
)
WEBHOOK_RETENTION = Setting(
    "WEBHOOK_RETENTION_SECONDS",
    values.seconds(60, 365 * DAY),
    str(7 * DAY),
    "how long deliveries of webhooks are kept after they were made or have failed, in seconds",
    f"{7 * DAY}, 7 days",
)

SETTINGS: tuple[Setting[Any], ...] = (
    HOST,
    PORT,
    DATA_DIR,
    DATABASE_URL,
    REDIS_URL,
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
    HISTORY_SECONDS,
    PUBLIC_URL,
    ALLOWED_ORIGINS,
    TRUSTED_PROXIES,
    LIMIT_SIGNUPS,
    LIMIT_WRONG_SIGNINS,
    LIMIT_SIGNINS,
    LIMIT_REFRESHES,
    LIMIT_TICKETS,
    LIMIT_MAILS,
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
    TLS_CERTIFICATE,
    TLS_KEY,
    *LIMIT_SETTINGS,
)
