"""services/settings/generated_keys.py: keys are generated once, by exactly one start."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from services.errors import SettingError
from services.secret import Secret
from services.settings.generated_keys import (
    ENCRYPTION_KEYS_FILE,
    JWT_SECRETS_FILE,
    stored_encryption_keys,
    stored_jwt_secrets,
)

ROOT = Path(__file__).parents[2]
Stored = Callable[[Path], tuple[tuple[Secret, ...], list[str]]]
BOTH = pytest.mark.parametrize(
    ("stored", "name"),
    [(stored_jwt_secrets, JWT_SECRETS_FILE), (stored_encryption_keys, ENCRYPTION_KEYS_FILE)],
    ids=["jwt", "encryption"],
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@BOTH
def test_a_key_is_made_once_and_read_after_that(tmp_path: Path, stored: Stored, name: str) -> None:
    made, warnings = stored(tmp_path)
    assert (stored(tmp_path)[0], warnings) == (made, [])
    assert len(made) == 1
    assert mode(tmp_path / name) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_keys_are_strong(tmp_path: Path) -> None:
    assert len(stored_jwt_secrets(tmp_path)[0][0].reveal()) == 64
    Fernet(stored_encryption_keys(tmp_path)[0][0].reveal())


@BOTH
def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path, stored: Stored, name: str) -> None:
    before = os.umask(0)
    try:
        stored(tmp_path)
    finally:
        os.umask(before)
    assert mode(tmp_path / name) == 0o600


def test_a_second_line_is_an_older_key(tmp_path: Path) -> None:
    (tmp_path / JWT_SECRETS_FILE).write_text("n" * 32 + "\n\n" + "o" * 32 + "\n")
    (tmp_path / JWT_SECRETS_FILE).chmod(0o600)
    assert stored_jwt_secrets(tmp_path)[0] == (Secret("n" * 32), Secret("o" * 32))


@BOTH
@pytest.mark.parametrize("bits", [0o644, 0o640, 0o604, 0o666])
def test_a_file_open_to_others_is_closed_with_a_warning(
    tmp_path: Path, stored: Stored, name: str, bits: int
) -> None:
    made, _ = stored(tmp_path)
    (tmp_path / name).chmod(bits)
    again, warnings = stored(tmp_path)
    assert again == made
    assert mode(tmp_path / name) == 0o600
    assert len(warnings) == 1
    assert f"{bits:04o}" in warnings[0]
    assert made[0].reveal() not in warnings[0]


@BOTH
@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"hunter2", b"\xff\xfe" * 40, b"\0" * 10],
    ids=["empty", "blank", "short", "binary", "zeros"],
)
def test_a_garbled_file_stops_the_start_and_stays_as_it_is(
    tmp_path: Path, stored: Stored, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingError) as error:
        stored(tmp_path)
    assert str(path) in error.value.got
    assert "hunter2" not in str(error.value)
    assert path.read_bytes() == content


@BOTH
def test_what_is_no_file_stops_the_start(tmp_path: Path, stored: Stored, name: str) -> None:
    for make in (Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")):
        make(tmp_path / name)
        with pytest.raises(SettingError):
            stored(tmp_path)
        (tmp_path / name).rmdir() if make is Path.mkdir else (tmp_path / name).unlink()


@BOTH
def test_a_missing_folder_stops_the_start(tmp_path: Path, stored: Stored, name: str) -> None:
    with pytest.raises(SettingError, match=name):
        stored(tmp_path / "nowhere")


def test_starts_at_the_same_time_all_get_the_same_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from services.settings.generated_keys import stored_jwt_secrets\n"
        "sys.stdin.readline(); print(stored_jwt_secrets(Path(sys.argv[1]))[0][0].reveal())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    starts = [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(6)
    ]
    for start in starts:
        assert start.stdin is not None
        start.stdin.write("go\n")
        start.stdin.flush()
    found = [start.communicate(timeout=60)[0] for start in starts]
    assert len(set(found)) == 1
    assert len(found[0].strip()) == 64
    assert [path.name for path in tmp_path.iterdir()] == [JWT_SECRETS_FILE]
