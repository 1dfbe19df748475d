"""services/settings/data_dir.py: a folder closed to others, for one server."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.errors import SettingError
from services.settings.data_dir import (
    LOCK_FILE,
    DataDirLock,
    prepare_data_dir,
    running_server,
)

ROOT = Path(__file__).parents[2]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_closed_to_others(tmp_path: Path) -> None:
    assert prepare_data_dir(tmp_path / "a" / "data") == []
    assert mode(tmp_path / "a" / "data") == 0o700


@pytest.mark.parametrize("inside", [None, "lost+found", "jwt_secrets.key"])
def test_an_open_folder_that_is_ours_is_closed(tmp_path: Path, inside: str | None) -> None:
    tmp_path.chmod(0o755)
    if inside:
        (tmp_path / inside).touch()
    (warning,) = prepare_data_dir(tmp_path)
    assert mode(tmp_path) == 0o700
    assert "0755" in warning
    assert prepare_data_dir(tmp_path) == []


def test_an_open_folder_with_other_things_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "holiday.jpg").touch()
    (warning,) = prepare_data_dir(tmp_path, "--data-dir")
    assert mode(tmp_path) == 0o755
    assert "--data-dir" in warning


def test_a_folder_that_cannot_be_created_is_an_invalid_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingError) as error:
            prepare_data_dir(path, "--data-dir")
        assert error.value.name == "--data-dir"
        assert str(path) in error.value.got


def test_the_lock_is_for_one_at_a_time(tmp_path: Path) -> None:
    with DataDirLock(tmp_path), pytest.raises(SettingError) as error:
        DataDirLock(tmp_path).acquire()
    assert f"process {os.getpid()}" in error.value.got
    with DataDirLock(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text() == f"{os.getpid()}\n"
        assert mode(tmp_path / LOCK_FILE) == 0o600


def test_releasing_twice_does_nothing(tmp_path: Path) -> None:
    lock = DataDirLock(tmp_path)
    lock.acquire()
    lock.release()
    lock.release()
    with DataDirLock(tmp_path):
        pass


def test_another_process_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from services.settings.data_dir import DataDirLock\n"
        "lock = DataDirLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(SettingError, match=f"process {holder.pid}"):
            DataDirLock(tmp_path).acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=30)
        with DataDirLock(tmp_path):
            pass


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(SettingError):
        DataDirLock(tmp_path / "nowhere").acquire()


def test_a_running_server_is_known_with_its_reloads_and_where_it_is_reached(tmp_path: Path) -> None:
    assert running_server(tmp_path / "nowhere") is None
    assert running_server(tmp_path) is None
    lock = DataDirLock(tmp_path)
    with lock:
        assert running_server(tmp_path) == (os.getpid(), 0, "")
        lock.record_reloads(9)
        assert running_server(tmp_path) == (os.getpid(), 9, "")
        lock.record_public_url("https://usher.example:8443")
        lock.record_reloads(12)
        assert running_server(tmp_path) == (os.getpid(), 12, "https://usher.example:8443")
        with pytest.raises(SettingError) as error:
            DataDirLock(tmp_path).acquire()
        assert f"process {os.getpid()}" in error.value.got
    assert running_server(tmp_path) is None
