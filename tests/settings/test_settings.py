"""settings/settings.py: both sources, flags, warnings, and what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.errors import SettingError
from services.settings.settings import VERSION, Settings, exit_with, load
from services.settings.table import DATA_DIR, SETTINGS
from tests.settings.reading import HIDDEN, KEY, SECONDS, line_for, read

ROOT = Path(__file__).parents[2]


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
