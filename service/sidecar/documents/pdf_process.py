"""One process that reads a document: how it is started, told what to do, and listened to."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import IO, TypeVar, cast

import orjson

from sidecar.documents import worker
from sidecar.documents.pdf_reading import Part, PdfReading, part, refusal
from sidecar.problems import Problem
from sidecar.process.children import is_stopped, needed
from sidecar.scheduling.tokenizing import fulfil
from sidecar.settings import Limits

LAST_WORD_S = 1.0
# What a process may compute until it is ready, in seconds.
_READY_S = 2
R = TypeVar("R")


class PdfProcess:
    """A process that reads one document."""

    def __init__(self, limits: Limits, is_gone: Callable[[], bool]) -> None:
        arguments = (
            limits.max_pages,
            limits.max_document_chars,
            math.ceil(limits.document_cpu_s) + _READY_S,
            os.getpid(),
        )
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-B", worker.__file__, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=needed(os.environ),  # no token or key goes along
            cwd=os.path.abspath(os.sep),  # noqa: PTH100 (nobody's folder is held)
        )
        self._is_gone = is_gone
        try:
            self.ready = on_thread(self._is_said)
        except RuntimeError:  # no thread to be had
            self.end()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    @property
    def is_stopped(self) -> bool:
        """Whether something has it wait."""
        return is_stopped(self._popen.pid)

    @property
    def is_ready(self) -> bool:
        """Whether it had loaded all that it needs while the bundle was still the service's own."""
        return self.ready.done() and self.ready.result()

    @property
    def code(self) -> int | None:
        """What it ended with, once that is known."""
        return self._popen.returncode

    def ask(
        self, data: bytes, reading: PdfReading, *, max_bytes: int, on_ready: Callable[[], object]
    ) -> Part | Problem | None:
        """Return the last that it says, or None if it ended before; it has ended then in any case.

        What it says goes to `reading`. Blocks, and is let go by `kill`. Calls `on_ready` when the
        process can read.
        """
        sent = cast("IO[bytes]", self._popen.stdin)
        turn, told = reading.begin()
        try:
            if not self.ready.result():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(LAST_WORD_S)
                return None
            on_ready()
            # It may end before it has read all, and tells by its exit code why.
            with contextlib.suppress(OSError):
                for message in (orjson.dumps(told), data):
                    sent.write(worker.LENGTH.pack(len(message)))
                    sent.write(message)
                sent.flush()
            answer = self._last(reading, turn, max_bytes)
            if answer is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(LAST_WORD_S)
            return answer
        finally:
            self.end()

    def _last(self, reading: PdfReading, turn: int, max_bytes: int) -> Part | Problem | None:
        said = cast("IO[bytes]", self._popen.stdout)
        while True:
            head = said.read(worker.LENGTH.size)
            size = worker.LENGTH.unpack(head)[0] if len(head) == worker.LENGTH.size else 0
            answer = _answer(said.read(size)) if 0 < size <= max_bytes else None
            max_bytes -= size
            if isinstance(answer, Part):
                reading.add(answer, turn)
                if not answer.is_last:
                    continue
            return answer

    def _is_said(self) -> bool:
        said = b""
        with contextlib.suppress(OSError, ValueError):  # it was ended, and its pipe closed
            said = cast("IO[bytes]", self._popen.stdout).read(len(worker.READY))
        if said == worker.READY and not self._is_gone():
            return True
        if said:  # what it loaded may be another bundle's
            self.kill()
        return False

    def kill(self) -> None:
        """End it at once, whatever it does; it is waited for by whoever asked it."""
        self._popen.kill()

    def end(self) -> None:
        """End it, wait for that, and close its pipes."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it never read
                    pipe.close()


def _answer(body: bytes) -> Part | Problem | None:
    """Return what the worker says in `body`, None if that is nothing that it says."""
    try:
        answer = orjson.loads(body)
    except ValueError:
        return None
    match answer:
        case {"error": str(word)}:
            return refusal(word)
        case _:
            return part(answer)


def on_thread(work: Callable[[], R]) -> Future[R]:
    """Return the future of what `work` returns, done on a thread that keeps no program alive."""
    made: Future[R] = Future()
    made.set_running_or_notify_cancel()  # so that it is not cancelled before the thread begins
    threading.Thread(target=fulfil, args=(work, made), name="document", daemon=True).start()
    return made
