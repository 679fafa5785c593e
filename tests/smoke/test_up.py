"""`python3 build up`, as a person at a terminal meets it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
READY_SECONDS = 240
CURL = re.compile(r"^\s+(curl http://127\.0\.0\.1:\d+/embed .*)$", re.MULTILINE)


class Up:
    """A running `python3 build up`, and what it said on standard error so far."""

    def __init__(self, *arguments: str) -> None:
        self.said = ""
        self.is_ready = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "build", "up", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.said += line
                if CURL.search(self.said):
                    self.is_ready.set()

    def alive(self) -> list[int]:
        """Return the processes that it started, itself included, and that are still there."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(entry.name)) == self.process.pid:
                    found.append(int(entry.name))
        return found

    def end(self, number: int) -> int:
        """Send a signal, once, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.listener.join(10)
        return code


@pytest.fixture
def up(bundle: Path) -> Iterator[Up]:
    assert bundle.is_dir()
    running = Up("--port", "0")
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()
    running.listener.join(10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_reuses_the_bundle_serves_what_it_prints_and_stops_with_0(up: Up, number: int) -> None:
    assert up.is_ready.wait(READY_SECONDS), up.said
    assert "assembled: nothing rebuilt" in up.said
    assert len(up.alive()) > 1
    found = CURL.search(up.said)
    assert found is not None
    if shutil.which("curl"):
        # The very line that people are told to try.
        answer = subprocess.run(
            ["bash", "-c", f"{found[1]} --silent --fail"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert '"vectors":[[' in answer.stdout
    assert up.end(number) == 0, up.said
    assert up.said.endswith("stopped\n")
    assert up.alive() == []


def test_a_taken_port_ends_it_before_any_work_with_3_and_a_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "build", "up", "--port", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert f"port {port}" in done.stderr
    assert "--port 0" in done.stderr
    assert "assemble" not in done.stderr


def test_a_service_that_cannot_start_gives_its_own_exit_code(bundle: Path) -> None:
    assert bundle.is_dir()
    done = subprocess.run(
        [sys.executable, "build", "up", "--port", "0", "--", "--allow-dir", __file__],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "--allow-dir" in done.stderr
