"""settings/settings.py: every setting, from both sources, and the error line for an invalid one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import SettingError
from services.secret import Secret
from services.settings.limits import LIMIT_SETTINGS
from services.settings.settings import VERSION, Settings, error_line, exit_with, load
from services.settings.smtp import Sender
from services.settings.table import DATA_DIR, SETTINGS

ROOT = Path(__file__).parents[2]
KEY = "dXNoZXItdGVzdC1rZXktdXNoZXItdGVzdC1rZXktMDE="  # the same for every xdist worker
HIDDEN = "hunter2hunter2"
# With these nothing is generated and DATA_DIR is not touched.
COMPLETE = {
    "USHER_DATABASE_URL": "postgresql://usher@db/usher",
    "USHER_REDIS_URL": "redis://cache",
    "USHER_JWT_SECRETS": "s" * 32,
    "USHER_ENCRYPTION_KEYS": KEY,
}


def read(environ: Mapping[str, str] | None = None, argv: Sequence[str] = ()) -> Settings:
    return load({**COMPLETE, **(environ or {})}, argv)


def line_for(environ: Mapping[str, str], argv: Sequence[str] = ()) -> str:
    with pytest.raises(SettingError) as error:
        read(environ, argv)
    line = error_line(error.value)
    assert line.isprintable()
    return line


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    settings = load({"USHER_DATA_DIR": str(tmp_path)}, [])
    assert (settings.host, settings.port) == ("127.0.0.1", 8888)
    assert settings.database_url.reveal() == f"sqlite:///{tmp_path}/usher.db"
    assert settings.redis_url is None
    assert settings.embedded
    assert settings.access_token_ttl_seconds == 900
    assert settings.refresh_token_ttl_seconds == 14 * 86_400
    assert settings.session_lifetime_seconds == 30 * 86_400
    assert (settings.ticket_ttl_seconds, settings.join_timeout_seconds) == (30, 5)
    assert settings.public_url is None
    assert not settings.allowed_origins + settings.trusted_proxies + settings.oauth_providers
    assert settings.warnings == ()
    assert DATA_DIR.default == "./data"


def test_generated_keys_are_the_same_at_the_next_start(tmp_path: Path) -> None:
    environ = {"USHER_DATA_DIR": str(tmp_path / "data")}
    first, second = load(environ, []), load(environ, [])
    assert first == second
    assert len(first.jwt_secrets) == len(first.encryption_keys) == 1


def test_data_dir_is_not_touched_if_it_is_not_used(tmp_path: Path) -> None:
    settings = read({"USHER_DATA_DIR": str(tmp_path / "data")})
    assert not settings.embedded
    assert not (tmp_path / "data").exists()


def test_an_invalid_setting_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(SettingError):
        load({"USHER_DATA_DIR": str(tmp_path / "data"), "USHER_PORT": "x"}, [])
    assert not (tmp_path / "data").exists()


def test_every_setting_has_a_field_of_its_name() -> None:
    fields = {field.name for field in msgspec.structs.fields(Settings)}
    assert {setting.name.lower() for setting in SETTINGS} <= fields


def test_flags_win_over_the_environment() -> None:
    environ = {"USHER_PORT": "1000", "USHER_TICKET_TTL_SECONDS": "7", "USHER_HOST": "::"}
    settings = read(environ, ["--port", "2000", "--ticket-ttl-seconds=1.5"])
    assert (settings.host, settings.port, settings.ticket_ttl_seconds) == ("::", 2000, 1.5)


def test_a_flag_overrides_an_invalid_variable() -> None:
    assert read({"USHER_PORT": "bad"}, ["--port=0"]).port == 0


def test_no_secret_is_printed_or_serialised_with_the_settings() -> None:
    settings = read({"USHER_DATABASE_URL": f"postgresql://usher:{HIDDEN}@db/usher"})
    assert HIDDEN not in repr(settings)
    assert KEY not in repr(settings)
    with pytest.raises(TypeError):
        msgspec.json.encode(settings)
    with pytest.raises(TypeError):
        json.dumps(settings)


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
SECONDS = [setting.name for setting in SETTINGS if setting.name.endswith("_SECONDS")]
BAD |= {
    name: ["", "x", "0", "-1", "nan", "inf", "1e3", "0.01", "1_0", "99999999999", "5s", "\uff11"]
    for name in SECONDS
}
COUNTS = ["HISTORY_MESSAGES", *(setting.name for setting in LIMIT_SETTINGS)]
BAD |= {name: ["", "x", "0", "-1", "1.5", "1e3", "1_0", "1000001", "\uff11"] for name in COUNTS}
BAD |= {"MAX_JOINED_OPEN_CHANNELS": ["", "x", "-1", "1.5", "1e3", "1_0", "1000001", "\uff11"]}
BAD |= {"HISTORY_BYTES": ["", "x", "0", "-1", "65535", "1e6", "1_048_576", "10000000001"]}
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("JWT_SECRETS", HIDDEN),
        ("JWT_SECRETS", "a" * 32 + "," + HIDDEN),
        ("JWT_SECRETS", ",".join([HIDDEN * 3] * 2)),
        ("ENCRYPTION_KEYS", HIDDEN),
        ("DATABASE_URL", HIDDEN),
        ("DATABASE_URL", f"mysql://root:{HIDDEN}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{HIDDEN}@h"),
        ("DATABASE_URL", f"postgresql://u:{HIDDEN}@h:port/d"),
        ("DATABASE_URL", f"postgresql://u:{HIDDEN}@h:1,i:port/d"),
        ("DATABASE_URL", f"postgresql://u:[{HIDDEN}@h/d"),
        ("DATABASE_URL", f"sqlite://u:{HIDDEN}@h"),
        ("REDIS_URL", f"redis://:{HIDDEN}@"),
        ("REDIS_URL", f"redis+cluster://:{HIDDEN}@h/1"),
        ("REDIS_URL", f"rediss+sentinel://{HIDDEN}@h"),
        ("REDIS_URL", f"redis+sentinel://h?sentinel_password={HIDDEN}"),
        ("REDIS_URL", f"{HIDDEN}@h:6379"),
        ("PUBLIC_URL", f"https://u:{HIDDEN}@h"),
        ("ALLOWED_ORIGINS", f"https://a,https://u:{HIDDEN}@h"),
    ],
)
def test_no_invalid_value_reveals_a_secret(name: str, text: str) -> None:
    line = line_for({"USHER_" + name: text})
    assert HIDDEN not in line
    assert "****" in line


def test_what_follows_an_unknown_flag_is_not_shown() -> None:
    for argv in ([f"--jwt-secret={HIDDEN}"], ["--prot", HIDDEN], [HIDDEN], [f"-x{HIDDEN}"]):
        assert HIDDEN not in line_for({}, argv)


def test_an_unknown_flag_is_refused_with_the_nearest_one() -> None:
    assert "did you mean --port?" in line_for({}, ["--prot", "1"])
    assert "did you mean" not in line_for({}, ["--something-else"])


def test_a_flag_is_not_abbreviated_and_has_to_have_a_value() -> None:
    assert line_for({}, ["--por", "1"]).startswith("usher: --por: ")
    assert line_for({}, ["--port"]) == (
        "usher: --port: got nothing, takes a value: --port VALUE or --port=VALUE"
    )


def test_an_unknown_variable_is_a_warning_without_its_value() -> None:
    settings = read({"USHER_JWT_SECRET": HIDDEN, "USHER_TEST_X": "1", "OTHER": "x"})
    near, far = settings.warnings
    assert "USHER_JWT_SECRET " in near
    assert "did you mean USHER_JWT_SECRETS?" in near
    assert far == "USHER_TEST_X is not a setting and is not used"
    assert HIDDEN not in repr(settings)


def test_risky_settings_are_warned_about() -> None:
    assert any("in clear" in w for w in read({"USHER_PUBLIC_URL": "http://usher.example"}).warnings)
    for local in ("http://localhost:1", "http://[::1]:1", "https://usher.example"):
        assert read({"USHER_PUBLIC_URL": local}).warnings == ()
        assert read({"USHER_PUBLIC_URL": f"{local}/usher"}).warnings == ()
    assert "every address" in read({"USHER_TRUSTED_PROXIES": "0.0.0.0/0"}).warnings[0]


def test_kubernetes_service_links_are_explained() -> None:
    assert "enableServiceLinks" in line_for({"USHER_PORT": "tcp://10.0.0.1:8888"})


def test_the_error_for_each_form_of_a_redis_url_names_its_options() -> None:
    sentinel = line_for({"USHER_REDIS_URL": "rediss+sentinel://h"})
    assert "****" in sentinel
    assert "redis+sentinel://host:port,host:port/master_name" in sentinel
    assert "one database, 0" in line_for({"USHER_REDIS_URL": "redis+cluster://h/1"})


GOOGLE = {"USHER_OAUTH_GOOGLE_CLIENT_ID": "id", "USHER_OAUTH_GOOGLE_CLIENT_SECRET": HIDDEN}


def test_a_known_provider_needs_no_issuer() -> None:
    (google,) = read({"USHER_OAUTH_PROVIDERS": "Google", **GOOGLE}).oauth_providers
    assert (google.name, google.issuer, google.client_id) == ("google", None, "id")
    assert google.client_secret == Secret(HIDDEN)
    assert google.scopes == ()
    assert HIDDEN not in repr(google)


def test_another_provider_is_found_by_its_issuer_also_by_flags() -> None:
    settings = read(
        {"USHER_OAUTH_MY_IDP_ISSUER": "https://idp.example/realm"},
        ["--oauth-providers", "my-idp", "--oauth-my-idp-client-id=id",
         "--oauth-my-idp-client-secret", "x", "--oauth-my-idp-scopes", "openid email"],
    )  # fmt: skip
    (idp,) = settings.oauth_providers
    assert (idp.issuer, idp.scopes) == ("https://idp.example/realm", ("openid", "email"))
    assert settings.warnings == ()


@pytest.mark.parametrize("missing", sorted(GOOGLE))
def test_a_missing_part_of_a_provider_is_named(missing: str) -> None:
    environ = {name: text for name, text in GOOGLE.items() if name != missing}
    line = line_for({"USHER_OAUTH_PROVIDERS": "google", **environ})
    assert line.startswith(f"usher: {missing}: got nothing, takes ")


def test_an_unknown_provider_needs_an_issuer() -> None:
    line = line_for({"USHER_OAUTH_PROVIDERS": "idp"})
    assert line.startswith("usher: USHER_OAUTH_IDP_ISSUER: got nothing")


@pytest.mark.parametrize(
    ("issuer", "taken"),
    [
        ("https://idp.example", True),
        ("https://idp.example/realms/a/", True),
        ("http://127.0.0.1:9000", True),
        ("http://[::1]:9000/x", True),
        ("http://localhost:9000", True),
        ("http://idp.example", False),
        ("http://localhost.evil.example", False),
        ("http://127.0.0.1@evil.example", False),
        ("https://u:p@idp.example", False),
        ("https://idp.example?x", False),
        ("https://idp.example#", False),
        ("https://", False),
        ("idp.example", False),
        ("ftp://idp.example", False),
        ("https://idp.example/a b", False),
    ],
)
def test_an_http_issuer_is_accepted_on_loopback_only(issuer: str, taken: bool) -> None:
    environ = {
        "USHER_OAUTH_PROVIDERS": "idp",
        "USHER_OAUTH_IDP_ISSUER": issuer,
        "USHER_OAUTH_IDP_CLIENT_ID": "id",
        "USHER_OAUTH_IDP_CLIENT_SECRET": "x",
    }
    if taken:
        assert read(environ).oauth_providers[0].issuer == issuer
    else:
        assert line_for(environ).startswith("usher: USHER_OAUTH_IDP_ISSUER: ")


def test_a_mail_server_needs_a_sender() -> None:
    line = line_for({"USHER_SMTP_URL": "smtp://usher:geheim@mail.example"})
    assert line.startswith("usher: USHER_MAIL_FROM: got nothing, takes an address")
    assert "geheim" not in line


def test_mails_in_clear_are_warned_of() -> None:
    sender = {"USHER_MAIL_FROM": "a@example.org"}
    clear = read({**sender, "USHER_SMTP_URL": "smtp://relay:25?starttls=off"})
    assert any("SMTP_URL has starttls=off" in line for line in clear.warnings)
    assert not read({**sender, "USHER_SMTP_URL": "smtp://127.0.0.1:25"}).warnings


def test_email_domains_without_confirmation_cause_a_warning() -> None:
    domains = {"USHER_EMAIL_DOMAINS": "example.org"}
    assert "EMAIL_DOMAINS is set" in read(domains).warnings[0]
    confirmed = {**domains, "USHER_EMAIL_VERIFICATION": "required"}
    assert not any("EMAIL_DOMAINS" in line for line in read(confirmed).warnings)


def test_settings_of_a_provider_that_is_not_listed_are_warned_about() -> None:
    assert len(read(GOOGLE).warnings) == 2


def test_a_misspelt_rule_of_a_listed_provider_stops_the_start() -> None:
    environ = {**GOOGLE, "USHER_OAUTH_PROVIDERS": "google"}
    environ["USHER_OAUTH_GOOGLE_EMAIL_DOMAIN"] = "example.org"
    line = line_for(environ)
    assert line.startswith("usher: USHER_OAUTH_GOOGLE_EMAIL_DOMAIN: got an unknown setting")
    assert "did you mean USHER_OAUTH_GOOGLE_EMAIL_DOMAINS?" in line


@pytest.mark.parametrize(("there", "missing"), [("ROLE_CLAIM", "ROLES"), ("ROLES", "ROLE_CLAIM")])
def test_half_a_role_mapping_stops_the_start(there: str, missing: str) -> None:
    environ = {**GOOGLE, "USHER_OAUTH_PROVIDERS": "google"}
    environ[f"USHER_OAUTH_GOOGLE_{there}"] = "ops:admin"
    line = line_for(environ)
    assert line.startswith(f"usher: USHER_OAUTH_GOOGLE_{missing}: got nothing, takes ")
    assert line.endswith(f"; {there} needs it")


def test_proxy_headers_need_a_proxy_to_believe() -> None:
    line = line_for({"USHER_PROXY_PROTOCOL": "on"})
    assert line.startswith("usher: USHER_TRUSTED_PROXIES: got nothing, takes addresses")
    assert line.endswith("; PROXY_PROTOCOL=on needs it")
    settings = read({"USHER_PROXY_PROTOCOL": "on", "USHER_TRUSTED_PROXIES": "10.0.0.5"})
    assert settings.proxy_protocol
    assert not read({"USHER_TRUSTED_PROXIES": "10.0.0.5"}).proxy_protocol


@pytest.mark.parametrize("environ", [{}, {"USHER_PORT": "x", "USHER_OAUTH_PROVIDERS": "!"}])
def test_help_lists_every_flag_with_its_default(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        load(environ, ["--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(f" {setting.flag} VALUE {setting.meaning[:9]}" in text for setting in SETTINGS)
    assert text.count("(default: ") == len(SETTINGS)
    assert text.count("in seconds") == len(SECONDS)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        load({}, ["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"usher {VERSION}\n"


def test_exit_with_prints_one_line_on_stderr_and_ends_with_status_2() -> None:
    code = (
        "import os, sys; from services.errors import SettingError; "
        "from services.settings.settings import exit_with, load\n"
        "try: load(os.environ, sys.argv[1:])\n"
        "except SettingError as error: exit_with(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "--port=8\n8\x1b[31m"],
        cwd=ROOT,
        env={"USHER_OTHER": "x", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("usher: --port: got ")
    assert run.stderr.count("\n") == 1
    assert "\x1b" not in run.stderr


def test_exit_with_takes_any_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        exit_with(SettingError("X", "a\nb\u2028\x07", "ü"))
    assert capsys.readouterr().err == "usher: X: got a\\nb\\u2028\\x07, takes \\xfc\n"


@given(st.sampled_from(SETTINGS), st.text(max_size=60))
def test_any_text_is_accepted_or_reported_in_one_line(setting: object, text: str) -> None:
    name = next(each.name for each in SETTINGS if each is setting)
    try:
        line = f"usher: {read({'USHER_' + name: text}).host}"
    except SettingError as error:
        line = error_line(error)
    assert line.isprintable()
    assert len(line) < 500


def test_requests_have_the_path_of_the_public_url_unless_the_proxy_strips_it() -> None:
    url = {"USHER_PUBLIC_URL": "https://example.org/a/b"}
    assert read(url).path_prefix == "/a/b"
    assert read({**url, "USHER_PUBLIC_URL_PATH": "stripped"}).path_prefix == ""
    without = read({"USHER_PUBLIC_URL": "https://example.org", "USHER_PUBLIC_URL_PATH": "stripped"})
    assert without.path_prefix == ""
    assert any("PUBLIC_URL has no path" in warning for warning in without.warnings)
    assert read({"USHER_PUBLIC_URL": "https://example.org"}).path_prefix == ""
    assert read().path_prefix == ""


@pytest.mark.parametrize(
    ("url", "given", "prefix"),
    [
        (None, None, ""),
        ("https://example.org", None, ""),
        ("https://example.org/usher", None, "usher."),
        ("https://example.org/a/b", None, "a+b."),
        ("https://example.org/a.b", None, "a.b."),
        ("https://example.org/usher", "blue-", "blue-"),
    ],
)
def test_cookies_are_named_after_the_path_of_the_public_url(
    url: str | None, given: str | None, prefix: str
) -> None:
    environ = {"USHER_PUBLIC_URL": url, "USHER_COOKIE_NAME_PREFIX": given}
    chosen = read({name: text for name, text in environ.items() if text is not None})
    assert chosen.cookie_name_prefix == prefix
