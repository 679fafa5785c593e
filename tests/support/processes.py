"""The service's program around a stub engine, as a process that tests signal and ask."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.systems import free_port
from tests.support import stub_service
from tests.support.clients import Client

PROGRAM = [sys.executable, "-B", str(Path(stub_service.__file__))]
WAIT_S = 60


class Process:
    """A running service; `port` is known before the model is loaded."""

    def __init__(
        self,
        *options: str,
        redirections: str = "",
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        **environment: str,
    ) -> None:
        self.port = free_port()
        command = [*PROGRAM, "--port", str(self.port), *options]
        self.popen = subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            cwd="/",
        )

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        answer = Client(port=self.port, timeout_s=WAIT_S).ask(path, body, method=method)
        return answer.status, answer.json()

    def until(self, status: int) -> None:
        """Wait until /health answers with `status`."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            assert self.popen.poll() is None, self.popen.communicate()
            with contextlib.suppress(OSError):
                if self.ask("GET", "/health")[0] == status:
                    return
            time.sleep(0.05)
        pytest.fail(f"/health never answered {status}")

    def embeds(self) -> bool:
        status, answer = self.ask("POST", "/embed", {"texts": ["a", "b"]})
        return status == 200 and len(answer["vectors"]) == 2

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self) -> tuple[int, bytes, bytes]:
        output, talk = self.popen.communicate(timeout=WAIT_S)
        return self.popen.returncode, output, talk
