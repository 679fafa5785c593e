"""The one thread that tokenises, beside the one that computes."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

R = TypeVar("R")
_URGENT, _LATER = 0, 1
_Errand = tuple[int, int, Callable[[], Any], "Future[Any]"]


class TokenizerThread:
    """Does small pieces of work one after the other, urgent ones first."""

    def __init__(self) -> None:
        """Start no thread before there is work."""
        self._errands: queue.PriorityQueue[_Errand] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._undone = 0

    @property
    def is_idle(self) -> bool:
        """Whether all that was submitted is done; one that says so stays so until the next."""
        return self._undone == 0

    def submit(self, work: Callable[[], R], *, is_urgent: bool) -> Future[R]:
        """Return the future of what `work` returns; cancelled in time, it is never done."""
        made: Future[R] = Future()
        with self._lock:
            self._undone += 1
        self._errands.put((_URGENT if is_urgent else _LATER, next(self._numbers), work, made))
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="reader", daemon=True)
                thread.start()  # where the system has none to give, the next errand asks again
                self._thread = thread
        return made

    def close(self) -> None:
        """Let the thread end after what it is doing; nothing is submitted any more."""
        stop: Future[Any] = Future()
        self._errands.put((-1, next(self._numbers), _end, stop))

    def _serve(self) -> None:
        while True:
            _, _, work, made = self._errands.get()
            if work is _end:
                return
            if made.set_running_or_notify_cancel():
                do(work, made)
            del work, made
            with self._lock:
                self._undone -= 1


def do(work: Callable[[], R], made: Future[R]) -> None:
    """Do `work`, and let the running future `made` tell what it returned or raised."""
    try:
        found = work()
    except BaseException as error:  # noqa: BLE001 (whoever waits raises it)
        made.set_exception(error)
    else:
        made.set_result(found)


def _end() -> None:
    """Stand for the end of the work."""
