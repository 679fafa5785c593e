"""A program that answers one JSON line for each that it is sent, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

from bundler.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAIL = 8
END_SECONDS = 10.0


class Worker:
    """Starts `command` at once; `ask` speaks with it, `close` ends it."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], name: str
    ) -> None:
        """Call it `name` in errors."""
        self.name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(environment),
            text=True,
            encoding="utf-8",
        )

    def ask(self, **question: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Return the answer to one question. Raises ModelError with the program's last words."""
        try:
            if self.process.stdin is None or self.process.stdout is None:
                raise AssertionError
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            code = self.process.wait()
            self._errors.seek(0)
            tail = "\n    ".join(self._errors.read().splitlines()[-TAIL:])
            raise ModelError(f"{self.name} ended with exit code {code}", why=tail)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ModelError(f"{self.name} failed", why=str(answer["error"]))
        return answer

    def close(self) -> None:
        """Close its input, which ends it, and insist if it does not."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()
