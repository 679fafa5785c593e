"""A service started by any command line, listened to until it is ready, and stopped by a signal."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from sidecar.manifest import read
from sidecar.web.app import LOADED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PREFIX = "PROGRESS:"
# No test takes so long; a service that hangs must not hold back the others.
MAX_SECONDS = 240.0


def program(bundle: Path, entrance: str = "embedding_sidecar") -> list[str]:
    """Return the command that starts the service of `bundle` as an app does, options left out."""
    return [str(bundle / read(bundle).runtime.executable), "-I", "-B", str(bundle / entrance)]


@dataclass(kw_only=True)
class Running:
    """A process whose standard output is read here; `events` are what it announced so far."""

    process: subprocess.Popen[str]
    errors: IO[str]
    events: list[dict[str, Any]] = field(default_factory=list)

    def wait_ready(self) -> int:
        """Return the port from the ready line. Fails with the log if the service ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            assert line.startswith(PREFIX), f"not a line of the protocol: {line!r}"
            self.events.append(json.loads(line.removeprefix(PREFIX)))
            if self.events[-1]["type"] == "ready":
                return int(self.events[-1]["data"]["port"])
        raise AssertionError(f"it ended with {self.process.wait()} before it was ready\n{self.log}")

    def wait_loaded(self) -> None:
        """Return when it has loaded all that requests need, which begins after it is ready."""
        deadline = time.monotonic() + MAX_SECONDS
        while LOADED not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    @property
    def log(self) -> str:
        """What it has written to standard error so far."""
        self.errors.seek(0)
        return self.errors.read()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait()


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Iterator[Running]:
    """Run `command` in nothing but `environment`; it is killed at the end if it still runs."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            command,
            env=dict(environment or {}),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
        )
        watchdog = threading.Timer(max_seconds, process.kill)
        watchdog.start()
        try:
            with process:
                try:
                    yield Running(process=process, errors=errors)
                finally:
                    if process.poll() is None:
                        process.kill()
        finally:
            watchdog.cancel()


def ended(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Return how `command` ended by itself, in nothing but `environment`."""
    return subprocess.run(
        command,
        env=dict(environment or {}),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=MAX_SECONDS,
        check=False,
    )
