"""settings/secret_files.py: secrets in files, as orchestrators provide them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.errors import SettingError
from services.secret import Secret
from services.settings.row import Setting
from services.settings.secret_files import MAX_BYTES
from services.settings.settings import error_line, load
from services.settings.table import SETTINGS

KEY = "dXNoZXItdGVzdC1rZXktdXNoZXItdGVzdC1rZXktMDE="  # the same for every xdist worker
VALUES = {
    "DATABASE_URL": "postgresql://usher:hunter2hunter2@db/usher",
    "REDIS_URL": "redis://:hunter2hunter2@cache/0",
    "JWT_SECRETS": "hunter2" * 6,
    "ENCRYPTION_KEYS": KEY,
}
COMPLETE = {f"USHER_{name}": value for name, value in VALUES.items()}
ACME = {
    "USHER_OAUTH_PROVIDERS": "acme",
    "USHER_OAUTH_ACME_ISSUER": "https://id.acme.example",
    "USHER_OAUTH_ACME_CLIENT_ID": "usher",
}


def written(folder: Path, text: str | bytes) -> str:
    path = folder / "secret"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def refusal(environ: dict[str, str], *argv: str) -> str:
    with pytest.raises(SettingError) as error:
        load(environ, argv)
    line = error_line(error.value)
    assert "hunter2" not in line
    return line


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("by_flag", [False, True], ids=["variable", "flag"])
def test_every_secret_can_come_from_a_file(
    tmp_path: Path, name: str, end: str, by_flag: bool
) -> None:
    environ = {k: v for k, v in COMPLETE.items() if k != f"USHER_{name}"}
    path = written(tmp_path, VALUES[name] + end)
    flag = "--" + name.lower().replace("_", "-") + "-file"
    if not by_flag:
        environ[f"USHER_{name}_FILE"] = path
    found = load(environ, [flag, path] if by_flag else [])
    value = getattr(found, name.lower())
    assert value in (Secret(VALUES[name]), (Secret(VALUES[name]),))
    assert found.warnings == ()


def test_a_providers_secret_can_come_from_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, "hunter2\n")
    found = load({**COMPLETE, **ACME, "USHER_OAUTH_ACME_CLIENT_SECRET_FILE": path}, [])
    assert found.oauth_providers[0].client_secret == Secret("hunter2")
    assert found.warnings == ()


def test_every_setting_that_is_a_secret_says_so() -> None:
    named = {s.name for s in SETTINGS if s.secret}
    assert named >= set(VALUES)
    assert Setting("SMTP_URL", str, None, "", secret=True).file_name == "SMTP_URL_FILE"


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"a" * (MAX_BYTES + 1), None, "folder", "pipe"],
    ids=["no UTF-8", "too large", "missing", "folder", "pipe"],
)
def test_a_file_that_cannot_be_taken_is_one_line(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "secret"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    line = refusal({**COMPLETE, **ACME, "USHER_OAUTH_ACME_CLIENT_SECRET_FILE": str(path)})
    assert line.startswith(f"usher: USHER_OAUTH_ACME_CLIENT_SECRET_FILE: got '{path}'")


def test_what_the_file_holds_is_checked_and_not_shown(tmp_path: Path) -> None:
    environ = {k: v for k, v in COMPLETE.items() if k != "USHER_JWT_SECRETS"}
    line = refusal({**environ, "USHER_JWT_SECRETS_FILE": written(tmp_path, "hunter2\n")})
    assert line.startswith("usher: USHER_JWT_SECRETS_FILE: got ****")


def test_a_secret_comes_from_one_place(tmp_path: Path) -> None:
    path = written(tmp_path, "hunter2" * 6)
    line = refusal({**COMPLETE, "USHER_JWT_SECRETS_FILE": path})
    assert line == (
        "usher: USHER_JWT_SECRETS_FILE: got a file beside USHER_JWT_SECRETS, takes one of the two"
    )
    # The command line wins over the environment in either form.
    assert load(COMPLETE, ["--jwt-secrets-file", path]).jwt_secrets == (Secret("hunter2" * 6),)


def test_what_is_no_secret_has_no_file() -> None:
    (warning,) = load({**COMPLETE, "USHER_PORT_FILE": "/x"}, []).warnings
    assert warning.startswith("USHER_PORT_FILE is not a setting and is not used")
    assert "--port-file" in refusal(COMPLETE, "--port-file", "/x")


@pytest.mark.parametrize(
    ("name", "text", "then"),
    [
        ("JWT_SECRETS", "hunter2" * 6 + " ", "which is part of it"),
        ("JWT_SECRETS", "a" * 32 + ", " + "b" * 32, "which is part of it"),
        ("JWT_SECRETS", "a" * 32 + "\n\n", "which is part of it"),
        ("ENCRYPTION_KEYS", f" {KEY}", "which is removed"),
        ("REDIS_URL", " redis://cache/0 ", "which is removed"),
    ],
)
def test_white_space_at_the_ends_of_a_secret_is_warned_of(
    tmp_path: Path, name: str, text: str, then: str
) -> None:
    variable = f"USHER_{name}"
    assert [w for w in load({**COMPLETE, variable: text}, []).warnings if then in w] == [
        f"{variable} has white space at its ends, {then}"
    ]
    environ = {k: v for k, v in COMPLETE.items() if k != variable}
    (warning,) = load({**environ, variable + "_FILE": written(tmp_path, text + " ")}, []).warnings
    assert warning.startswith(variable + "_FILE has white space")
