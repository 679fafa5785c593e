"""A service that is asked to watch its parent, and one that is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.orphans import orphan
from tests.support.processes import PROGRAM, WAIT_S, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.orphans import Moment

WATCHING = [*PROGRAM, "--port", "0", "--parent-watch"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd_open")


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def begin(*options: str, stdin: int = subprocess.PIPE) -> Process:
        made.append(Process(*options, stdin=stdin))
        return made[-1]

    yield begin
    for process in made:
        process.popen.kill()
        process.popen.communicate()


@pytest.mark.parametrize("is_held", [False, True], ids=["pipe free", "pipe held"])
@pytest.mark.parametrize("moment", ["ready", "busy"])
def test_no_service_outlives_a_parent_that_was_killed(moment: Moment, *, is_held: bool) -> None:
    assert orphan(WATCHING, moment, is_held=is_held).seconds < 5


@pytest.mark.parametrize("wait_s", [0.0, 0.05, 0.2, 0.6])
def test_nor_one_that_was_killed_while_the_service_starts(wait_s: float) -> None:
    assert orphan(WATCHING, "starting", wait_s=wait_s).seconds < 5


def test_nor_one_that_was_killed_while_the_model_loads() -> None:
    assert orphan([*WATCHING, "--slow-load"], "starting", wait_s=1.5).seconds < 5


def test_a_parent_that_hangs_is_served_on(start: Callable[..., Process]) -> None:
    service = start("--parent-watch")
    service.until(200)
    # The tests' own process is the parent: it neither writes nor closes anything for a while.
    time.sleep(1)
    assert service.popen.poll() is None
    assert service.embeds()


def test_a_stdin_that_its_parent_closes_is_a_graceful_stop(start: Callable[..., Process]) -> None:
    service = start("--parent-watch")
    service.until(200)
    assert service.popen.stdin is not None
    service.popen.stdin.close()
    service.popen.stdin = None
    code, _, talk = service.end()
    assert code == 0
    assert b"standard input was closed" in talk


def test_without_the_option_nothing_reads_stdin(start: Callable[..., Process]) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"left alone")
    service = start(stdin=reading)
    service.until(200)
    os.close(writing)
    time.sleep(0.5)
    assert service.embeds()
    assert os.read(reading, 100) == b"left alone"
    os.close(reading)
    service.signal(signal.SIGTERM)
    assert service.end()[0] == 0


def test_a_stdin_that_nobody_can_close_is_a_usage_error(start: Callable[..., Process]) -> None:
    service = start("--parent-watch", stdin=subprocess.DEVNULL)
    code, output, talk = service.end()
    assert (code, output) == (2, b"")
    assert b"needs a pipe" in talk


@pytest.mark.usefixtures("hangup")
def test_a_terminal_that_is_closed_is_a_graceful_stop(start: Callable[..., Process]) -> None:
    service = start()
    service.until(200)
    service.signal(signal.SIGHUP)
    assert service.popen.wait(WAIT_S) == 0
