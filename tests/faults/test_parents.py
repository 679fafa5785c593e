"""A service that is asked to watch its parent, and one that is not."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Literal

import pytest

from tests.support.doorstep import post
from tests.support.processes import PROGRAM, WAIT_S, Process
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Moment = Literal["starting", "ready", "busy"]

WATCHING = [*PROGRAM, "--port", "0", "--parent-watch"]
GIVE_UP_S = 10.0
# Starts what its arguments say with a pipe on stdin, and never ends by itself. With HOLDER in its
# environment another child has the pipe's other end too, and lives on.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env={})
print("pid", child.pid, flush=True)
if "HOLDER" in os.environ:
    code = "import time; time.sleep(600)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=[child.stdin.fileno()], stdout=subprocess.DEVNULL
    )
    print("holder", holder.pid, flush=True)
time.sleep(600)
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd_open")


def orphan(
    command: Sequence[str], moment: Moment, *, is_held: bool = False, wait_s: float = 0.0
) -> float:
    """Return how long a service outlives the parent that starts `command`, killed at `moment`.

    `wait_s` is how long after its start, or after it was ready, that is. With `is_held` another
    process keeps the other end of the service's stdin open.
    """
    numbers: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        words = [sys.executable, "-c", PARENT, *command]
        environment = {"HOLDER": "1"} if is_held else {}
        parent = stack.enter_context(running(words, environment=environment))
        stdout = parent.process.stdout
        assert stdout is not None
        for _ in range(2 if is_held else 1):
            name, number = stdout.readline().split()
            numbers[name] = int(number)
        if is_held:
            stack.callback(os.kill, numbers["holder"], signal.SIGKILL)
        service = os.pidfd_open(numbers["pid"])  # type: ignore[attr-defined,unused-ignore]
        stack.callback(os.close, service)
        if moment != "starting":
            port = parent.wait_ready()
            if moment == "busy":
                stack.enter_context(_asking(port))
        time.sleep(wait_s)
        parent.process.kill()
        began = time.monotonic()
        is_gone = bool(select.select([service], [], [], GIVE_UP_S)[0])
        seconds = time.monotonic() - began if is_gone else math.inf
        if not is_gone:
            os.kill(numbers["pid"], signal.SIGKILL)
        return seconds


@contextlib.contextmanager
def _asking(port: int) -> Iterator[None]:
    """Send a request that takes a while, and read no answer."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(post({"texts": ["one of many words " * 200] * 2_000}))
        yield


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
    assert orphan(WATCHING, moment, is_held=is_held) < 5


@pytest.mark.parametrize("wait_s", [0.0, 0.05, 0.2, 0.6])
def test_nor_one_that_was_killed_while_the_service_starts(wait_s: float) -> None:
    assert orphan(WATCHING, "starting", wait_s=wait_s) < 5


def test_nor_one_that_was_killed_while_the_model_loads() -> None:
    assert orphan([*WATCHING, "--slow-load"], "starting", wait_s=1.5) < 5


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
