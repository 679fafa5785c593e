from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import UsageError
from sidecar.process import credentials
from sidecar.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "0123456789abcdef" * 2
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of files")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n", encoding="ascii")
    path.chmod(0o600)
    return path


def test_the_token_of_the_environment_is_taken_out_of_it() -> None:
    environment = {credentials.VARIABLE: TOKEN, "OTHER": "x"}
    assert credentials.take(environment) == TOKEN
    assert environment == {"OTHER": "x"}
    assert credentials.take(environment) is None


def test_nothing_said_is_no_token_and_a_file_goes_before_the_environment(file: Path) -> None:
    assert credentials.read(is_on_stdin=False, file=None, variable=None) is None
    assert credentials.read(is_on_stdin=False, file=None, variable="v" * 16) == b"v" * 16
    assert credentials.read(is_on_stdin=False, file=file, variable="v" * 16) == TOKEN.encode()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_first_line_is_read_and_not_a_byte_behind_it(pipe: tuple[int, int], end: bytes) -> None:
    reading, writing = pipe
    os.write(writing, TOKEN.encode() + end + b"the lease")
    assert credentials.from_stdin(reading, wait_s=30) == TOKEN.encode()
    assert os.read(reading, 100) == b"the lease"


def test_a_line_that_comes_in_pieces_is_one(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"first")
    threading.Timer(0.1, os.write, (writing, b"-second\n")).start()
    assert credentials.from_stdin(reading, wait_s=30) == b"first-second"


def test_a_parent_that_says_nothing_is_not_waited_for_for_ever(pipe: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="standard input has no token"):
        credentials.from_stdin(pipe[0], wait_s=0.05)
    os.write(pipe[1], b"\n")  # lets the thread end


def test_a_parent_that_ends_before_the_line_is_told(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], TOKEN.encode())
    os.close(pipe[1])
    with pytest.raises(UsageError, match="ended before") as caught:
        credentials.from_stdin(pipe[0], wait_s=30)
    assert TOKEN not in caught.value.render()


def test_a_line_without_an_end_is_not_read_for_ever(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x" * 4096)
    line = credentials.from_stdin(pipe[0], wait_s=30)
    assert credentials.MAX_CHARS < len(line) < 1024


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_file_that_others_can_reach_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(UsageError, match="other users") as caught:
        credentials.from_file(file)
    assert TOKEN not in caught.value.render()


@posix
def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(UsageError, match="another user"):
        credentials.from_file(file)


@posix
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError):
            credentials.from_file(path)


@pytest.mark.parametrize("token", ["", "x" * 15, "x" * 513, "a token with spaces", "ü" * 16])
def test_a_token_that_cannot_serve_is_refused_without_being_quoted(token: str) -> None:
    with pytest.raises(UsageError) as caught:
        credentials.read(is_on_stdin=False, file=None, variable=token)
    assert not token or token not in caught.value.render()


def test_settings_do_not_show_their_token() -> None:
    assert TOKEN not in repr(Settings(token=TOKEN.encode()))
