from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from sidecar.process import stdio

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def fill(descriptor: int) -> int:
    os.set_blocking(descriptor, False)
    written = 0
    try:
        while True:
            written += os.write(descriptor, b"x" * 4096)
    except BlockingIOError:
        return written
    finally:
        os.set_blocking(descriptor, True)


def test_what_a_reader_has_room_for_is_written(pipe: tuple[int, int]) -> None:
    data = bytes(range(256)) * 60
    assert stdio.offer(pipe[1], data)
    assert os.read(pipe[0], 1 << 20) == data


def test_a_full_pipe_drops_the_line_and_does_not_block(pipe: tuple[int, int]) -> None:
    written = fill(pipe[1])
    assert not stdio.offer(pipe[1], b"lost\n")
    assert os.get_blocking(pipe[1])
    assert os.read(pipe[0], 1 << 20) == b"x" * written
    assert stdio.offer(pipe[1], b"seen\n")
    assert os.read(pipe[0], 100) == b"seen\n"


def test_more_than_a_pipe_holds_is_cut_and_does_not_block(pipe: tuple[int, int]) -> None:
    assert not stdio.offer(pipe[1], b"x" * (1 << 21))


def test_a_reader_that_left_and_a_closed_descriptor_end_nothing(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    assert not stdio.offer(pipe[1], b"lost\n")
    os.close(pipe[1])
    assert not stdio.offer(pipe[1], b"lost\n")
    assert not stdio.offer(-1, b"lost\n")


def test_a_plain_file_takes_everything(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    assert stdio.offer(descriptor, b"x" * 100_000)
    os.close(descriptor)
    assert (tmp_path / "log").stat().st_size == 100_000


def test_where_a_pipe_cannot_be_asked_it_counts_as_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert stdio.is_writable(-1)


def test_closed_standard_descriptors_are_filled_and_others_left_alone() -> None:
    code = (
        "import os; from sidecar.process.stdio import fill_standard\n"
        "os.close(0); os.close(2); fill_standard()\n"
        "os.write(1, repr([os.path.samestat(os.fstat(n), os.stat(os.devnull))"
        " for n in range(3)]).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"[True, False, True]"


def test_what_is_open_is_not_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    closed = {0, 2}

    def fstat(number: int) -> None:
        if number in closed:
            raise OSError(9, "Bad file descriptor")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", fstat)
        patched.setattr(os, "open", lambda *given: opened.append(given))
        stdio.fill_standard()
    assert opened == [(os.devnull, os.O_RDWR)] * 2
