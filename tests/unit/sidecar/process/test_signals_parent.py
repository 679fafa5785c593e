from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import UsageError
from sidecar.process import signals
from sidecar.process.signals import ParentWatch, PosixParent, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 30


class Watched:
    """A lease on a pipe, held by a parent that ends when a test says so."""

    def __init__(self) -> None:
        self.is_dead = False
        self.reading, self.writing = os.pipe()
        self.is_open = True
        self.stop = Stop()
        self.codes: list[int] = []
        self.ended = threading.Event()
        self.looks = 0
        self.lease = ParentWatch(
            self.stop, descriptor=self.reading, find=lambda: self, end=self._note_end
        )

    def is_gone(self) -> bool:
        self.looks += 1
        return self.is_dead

    def wait(self, descriptor: int | None, _seconds: float) -> bool:
        time.sleep(0.001)
        return PosixParent().wait(descriptor, 0.001)

    def _note_end(self, code: int) -> None:
        self.codes.append(code)
        self.ended.set()

    def close_pipe(self) -> None:
        os.close(self.writing)
        self.is_open = False

    def look(self) -> None:
        """Let the lease look some times."""
        until = self.looks + 5
        deadline = time.monotonic() + WAIT_S
        while self.looks < until and time.monotonic() < deadline:
            time.sleep(0.001)
        assert self.looks >= until


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.is_dead = True
    if made.is_open:
        made.close_pipe()
    assert made.ended.wait(WAIT_S) or not made.looks
    os.close(made.reading)


def test_a_parent_that_dies_ends_the_process_though_its_pipe_is_still_held(
    watched: Watched,
) -> None:
    watched.lease.begin()
    watched.lease.listen()
    watched.look()
    assert watched.codes == []
    watched.is_dead = True
    assert watched.ended.wait(WAIT_S)
    assert watched.codes == [0]
    assert not watched.stop.is_requested


def test_a_stdin_that_is_closed_is_a_request_and_the_parent_is_watched_on(
    watched: Watched,
) -> None:
    watched.lease.begin()
    watched.lease.listen()
    os.write(watched.writing, b"words that nobody asked for")
    watched.look()
    assert not watched.stop.is_requested
    watched.close_pipe()
    watched.stop.wait()
    watched.look()
    assert watched.codes == []
    watched.is_dead = True
    assert watched.ended.wait(WAIT_S)


def test_stdin_is_left_alone_until_it_is_listened_to(watched: Watched) -> None:
    watched.lease.begin()
    os.write(watched.writing, b"a token\n")
    watched.close_pipe()
    watched.look()
    assert not watched.stop.is_requested
    assert os.read(watched.reading, 7) == b"a token"
    watched.lease.listen()
    watched.stop.wait()


def test_a_stdin_that_breaks_is_one_that_was_closed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise ValueError

    monkeypatch.setattr(watched, "wait", fail)
    watched.lease.listen()
    watched.lease.begin()
    watched.stop.wait()


def test_a_stdin_that_cannot_be_closed_later_is_refused() -> None:
    with Path(os.devnull).open("rb") as null, pytest.raises(UsageError, match="a pipe") as caught:
        ParentWatch(Stop(), descriptor=null.fileno())
    assert caught.value.exit_code == 2
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(UsageError, match="a pipe"):
        ParentWatch(Stop(), descriptor=reading)


def test_an_orphan_knows_that_its_parent_is_gone() -> None:
    # A process whose own parent ends as soon as it looked for the first time.
    orphan = (
        "import os, sys, time\n"
        "from sidecar.process.signals import PosixParent\n"
        "reading, writing = os.pipe()\n"
        "if os.fork():\n"
        "    os.read(reading, 1)\n"
        "    os._exit(0)\n"
        "found = PosixParent()\n"
        "print(found.is_gone(), flush=True)\n"
        "os.write(writing, b'x')\n"
        "deadline = time.monotonic() + 30\n"
        "while not found.is_gone() and time.monotonic() < deadline:\n"
        "    time.sleep(0.01)\n"
        "print(found.is_gone())\n"
    )
    service = str(Path(signals.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-B", "-c", orphan],
        env={"PYTHONPATH": service},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]
