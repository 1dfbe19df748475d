"""The values that each setting accepts, and the line for those that it does not."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import SettingError
from services.secret import Secret
from services.settings.limits import LIMIT_SETTINGS
from services.settings.settings import error_line
from services.settings.smtp import Sender
from services.settings.table import SETTINGS
from tests.settings.reading import KEY, SECONDS, line_for, read

GOOD = [
    ("HOST", "0.0.0.0", "0.0.0.0"),
    ("HOST", "[::1]", "::1"),
    ("HOST", "::ffff:127.0.0.1", "127.0.0.1"),
    ("HOST", "Usher.Example", "usher.example"),
    ("PORT", "0", 0),
    ("MAX_JOINED_OPEN_CHANNELS", "0", 0),
    ("PORT", "65535", 65535),
    ("DATABASE_URL", "sqlite:///data/x.db", Secret("sqlite:///data/x.db")),
    ("DATABASE_URL", "postgres://u:p@h:5432/d", Secret("postgresql://u:p@h:5432/d")),
    ("DATABASE_URL", "postgresql:///d?host=/run/pg", Secret("postgresql:///d?host=/run/pg")),
    (
        "DATABASE_URL",
        "postgresql://u:p@a:1,[::1]:2,c/d",
        Secret("postgresql://u:p@a:1,[::1]:2,c/d"),
    ),
    ("REDIS_URL", "redis://:p@h:6379/1", Secret("redis://:p@h:6379/1")),
    ("REDIS_URL", "rediss://h", Secret("rediss://h")),
    ("REDIS_URL", "unix:///run/redis.sock", Secret("unix:///run/redis.sock")),
    *(
        ("REDIS_URL", url, Secret(url))
        for url in (
            "redis+sentinel://u:p@a:1,[::1],b.example/main/2?sentinel_password=x",
            "rediss+sentinel://a,b,c/main?ssl_cert_reqs=none",
            "redis+cluster://:p@a:1,b",
            "rediss+cluster://a/0",
        )
    ),
    ("JWT_SECRETS", "a" * 32 + "," + " b" * 16, (Secret("a" * 32), Secret(" b" * 16))),
    ("JWT_SECRETS", "ä" * 16, (Secret("ä" * 16),)),
    ("ENCRYPTION_KEYS", f" {KEY} ", (Secret(KEY),)),
    ("ACCESS_TOKEN_TTL_SECONDS", "1.5", 1.5),
    ("ACCESS_TOKEN_TTL_SECONDS", "86400", 86400),
    ("REFRESH_TOKEN_TTL_SECONDS", "0.1", 0.1),
    ("SESSION_LIFETIME_SECONDS", "31536000", 31536000),
    ("PUBLIC_URL", "https://Usher.Example:443/", "https://usher.example"),
    ("PUBLIC_URL", "http://localhost:8888", "http://localhost:8888"),
    ("PUBLIC_URL", "https://Example.ORG:443/Usher/", "https://example.org/Usher"),
    (
        "PUBLIC_URL",
        "https://example.org/~ada/team-1.usher_x",
        "https://example.org/~ada/team-1.usher_x",
    ),
    ("PUBLIC_URL", "http://[::1]:8888/usher", "http://[::1]:8888/usher"),
    ("PUBLIC_URL_PATH", "stripped", "stripped"),
    ("ALLOWED_ORIGINS", "", ()),
    ("ALLOWED_ORIGINS", "https://A.example, http://b:80", ("https://a.example", "http://b")),
    ("TRUSTED_PROXIES", "", ()),
    ("TRUSTED_PROXIES", "10.0.0.0/8,::1", (ip_network("10.0.0.0/8"), ip_network("::1"))),
    ("OAUTH_PROVIDERS", "", ()),
    ("NATIVE_REDIRECT_URIS", "", ()),
    (
        "NATIVE_REDIRECT_URIS",
        "com.example.app:/callback, https://app.example/in",
        ("com.example.app:/callback", "https://app.example/in"),
    ),
    ("SIGNUP", " Invite", "invite"),
    ("EMAIL_VERIFICATION", " Required", "required"),
    ("MAIL_FROM", "Room <room@example.org>", Sender("room@example.org", "Room")),
    ("EMAIL_DOMAINS", "", ()),
    ("EMAIL_DOMAINS", "@Example.org, bücher.example", ("example.org", "xn--bcher-kva.example")),
    ("APP_NAME", "  The\tReading  Room ", "The Reading Room"),
    ("APP_ACCENT", "#0b5c63", (0x0B, 0x5C, 0x63)),
    ("APP_ACCENT", "FC0", (0xFF, 0xCC, 0x00)),
    ("COOKIE_NAME_PREFIX", "blue-", "blue-"),
    ("DRAIN_SECONDS", "0.5", 0.5),
    ("LOG_FORMAT", " JSON", "json"),
    ("AUDIT_RETENTION_SECONDS", "86400", 86400),
    ("WEBHOOK_PRIVATE", "ON", True),
    ("WEBHOOK_RETENTION_SECONDS", "86400", 86400),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_valid_values_are_accepted(name: str, text: str, value: object) -> None:
    assert getattr(read({"USHER_" + name: text}), name.lower()) == value


BAD = {
    "APP_AUDIENCES": ["a b", "\x00"],
    "APP_NAME": ["", " ", "a\x00b", "x" * 61, "a\u200bb", "a\u202eb"],
    "APP_LOGO": ["", " ", "/nonexistent", "/etc/passwd", "https://elsewhere.example/logo.png",
                 "https://u:p@h/logo.png", "//h/logo.png", "a\nb", "\x00", "javascript:alert(1)"],
    "APP_ACCENT": ["", "teal", "#12", "#12345", "#1234567", "#gggggg", "red;}", "var(--x)"],
    "NATIVE_REDIRECT_URIS": ["x", "myapp:/callback", "com.example.app://callback", "https://h",
                             "http://app.example/x", "http://localhost:1/", "javascript:alert(1)",
                             "com.example.app:/a b", "com.example.app:/a#b", "https://u@h.example/",
                             "com.example.app:/a,", "https://-/x", "com.example.app:/a?b=c"],
    "SMTP_URL": ["", "x", "smtp://", "http://h", "smtp://h:x", "smtp://u@h", "smtp://h/x",
                 "smtp://h?starttls=no", "smtps://h?starttls=on"],
    "MAIL_FROM": ["", "x", "a@b c", "a@b\nX: y", "A <a@b", "a@-"],
    "MAIL_TEMPLATES": ["", " ", "a\nb", "\x00"],
    "EMAIL_VERIFICATION": ["", "true", "on", "mandatory"],
    "SIGNUP": ["", "true", "off", "open,invite"],
    "EMAIL_DOMAINS": [" , ", "example.org,", "ada@example.org", "*.example.org", "a b", "a..b",
                      "x" * 64 + ".org"],
    "WEBSOCKET": ["", "both", "raw"],
    "COMPRESSION": ["", "true", "1"],
    "MAX_COMPRESSED_SOCKETS": ["", "0", "-1", "1.5"],
    "PROCESSES": ["", "0", "-1", "1.5", "257", "auto"],
    "TLS_CERTIFICATE": ["", " ", "a\nb", "\x00"],
    "TLS_KEY": ["", " ", "a\nb", "\x00"],
    "HOST": ["", " ", "127.1", "999.1.1.1", "a b", "http://x", "x:80", "bü.example", "a/b", "\n"],
    "PORT": ["", "x", "-1", "65536", "1.5", "0x10", "1_000", "\uff18", "99999999999999", "tcp://1:2"],
    "DATA_DIR": ["", " ", "a\nb", "\x00"],
    "DATABASE_URL": ["", "x", "usher.db", "sqlite://x.db", "sqlite:///", "sqlite:///:memory:",
                     "mysql://u@h/d", "postgresql://", "postgresql://h", "postgresql://h:x/d",
                     "postgresql:///d", "postgresql://[::1/d", "http://h/d"],
    "REDIS_URL": ["", "x", "localhost:6379", "redis://", "redis://h:x", "redis://h/x", "unix://",
                  "http://h", "redis+sentinel://h", "redis+sentinel://h/m/x", "redis+sentinel:///m",
                  "redis+sentinel://h,/m", "redis+sentinel://h:0/m", "redis+sentinel://h:x/m",
                  "redis+sentinel://h/m?sentinel_username=u", "redis+cluster://",
                  "redis+cluster://h/1", "redis+cluster://h#x", "redis+other://h", "unix+cluster://h",
                  "redis+cluster://h\n"],
    "JWT_SECRETS": ["", "short", "a" * 31, "a" * 32 + ",", "a" * 32 + ",b",
                    ",".join(["a" * 32] * 2), "\udcff" * 32,
                    "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----"],
    "ENCRYPTION_KEYS": ["", "x", KEY[:-1], KEY + "=", f"{KEY},{KEY}", KEY + ",", "+" * 43 + "="],
    "PUBLIC_URL": ["", "usher.example", "https://h?x", "https://u:p@h", "ws://h",
                   "*", "null", "https://h//", "https://a,https://b", "tauri://localhost"],
    "ALLOWED_ORIGINS": ["*", "null", "a.example", "https://*.example", "https://h/x", "https://a,",
                        "https://u:p@h", "https://a https://b", "ftp://h"],
    "TRUSTED_PROXIES": ["x", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1,", "*", "proxy.example"],
    "PROXY_PROTOCOL": ["", "v2", "true", "on,off"],
    "OAUTH_PROVIDERS": ["google,", "goo gle", "a_b", "9x", "a/b", "GOOGLE,google", "../x"],
}  # fmt: skip
BAD |= {
    name: ["", "x", "0", "-1", "nan", "inf", "1e3", "0.01", "1_0", "99999999999", "5s", "\uff11"]
    for name in SECONDS
}
COUNTS = ["HISTORY_MESSAGES", *(setting.name for setting in LIMIT_SETTINGS)]
BAD |= {name: ["", "x", "0", "-1", "1.5", "1e3", "1_0", "1000001", "\uff11"] for name in COUNTS}
BAD |= {"MAX_JOINED_OPEN_CHANNELS": ["", "x", "-1", "1.5", "1e3", "1_0", "1000001", "\uff11"]}
BAD |= {"HISTORY_BYTES": ["", "x", "0", "-1", "65535", "1e6", "1_048_576", "10000000001"]}
BAD["REDIS_MEMORY_BYTES"] = ["", "x", "-1", "00", "1", "33554431", "32MiB", "1e9", "100000000000"]
BAD["COOKIE_NAME_PREFIX"] = ["", " ", "a b", "a=b", "a;b", "1a", "__Host-", "ä", "a" * 33]
BAD["PUBLIC_URL"] += [
    f"https://h{path}"
    for path in (
        "//",
        "/usher//",
        "//usher",
        "/a//b",
        "/..",
        "/usher/../b",
        "/.",
        "/a/./b",
        "/usher?x",
        "/usher?",
        "/usher#x",
        "/usher#",
        "/us%68er",
        "/a%2fb",
        "/a b",
        "/a\\b",
        "/a;b",
        "/a+b",
        "/é",
        "/usher\nx",
        "/usher/\x00",
        f"/{'a' * 100}",
    )
]
BAD["PUBLIC_URL"] += ["https://u:p@h/usher", "/usher", "//h/usher", "ws://h/usher"]
BAD["PUBLIC_URL_PATH"] = ["", "keep", "on", "kept,stripped"]
BAD["LOG_FORMAT"] = ["", "xml", "json,text"]
BAD["WEBHOOK_PRIVATE"] = ["", "yes", "1", "on,off"]
BAD |= {
    name: ["", "x", "-1", "1.5", "1e3", "1_0", "1000000001", "\uff11"]
    for name in (setting.name for setting in SETTINGS if setting.name.startswith("LIMIT_"))
}
BAD["MAX_SESSIONS_PER_USER"] = ["", "x", "0", "-1", "1.5", "1e3", "1_0", "100001"]


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name, texts in BAD.items() for text in texts],
)
@pytest.mark.parametrize("by_flag", [False, True], ids=["variable", "flag"])
def test_an_invalid_value_is_reported_in_one_line(name: str, text: str, by_flag: bool) -> None:
    flag = "--" + name.lower().replace("_", "-")
    shown, environ, argv = (
        (flag, {}, [f"{flag}={text}"])
        if by_flag
        else (f"USHER_{name}", {"USHER_" + name: text}, [])
    )
    line = line_for(environ, argv)
    assert line.startswith(f"usher: {shown}: got ")
    assert ", takes " in line
    assert "got , takes" not in line


def test_there_is_an_invalid_value_for_every_setting() -> None:
    assert set(BAD) == {setting.name for setting in SETTINGS}


@given(st.sampled_from(SETTINGS), st.text(max_size=60))
def test_any_text_is_accepted_or_reported_in_one_line(setting: object, text: str) -> None:
    name = next(each.name for each in SETTINGS if each is setting)
    try:
        line = f"usher: {read({'USHER_' + name: text}).host}"
    except SettingError as error:
        line = error_line(error)
    assert line.isprintable()
    assert len(line) < 500
