"""Turns of the event loop, shared out: however many requests begin at once, none fills one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

# So /health, which is begun at once, waits for no more than these.
REQUESTS_PER_TURN = 2


class Turns:
    """Spreads the beginnings of requests over turns of the event loop.

    While connections come in, their requests wait: to take a connection costs a fraction of what
    a request does, and one that is taken late is not even known to be for /health.
    """

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._begun = 0
        self._is_scheduled = False
        self._is_crowded = False

    def arrive(self) -> None:
        """Note that a connection was made in this turn."""
        self._is_crowded = True

    def give(self, begin: Callable[[], None]) -> None:
        """Call `begin` now, or in a later turn if enough was begun in this one."""
        if not self._waiting and self._begun < REQUESTS_PER_TURN:
            self._begun += 1
            self._schedule()
            begin()
        else:
            self._waiting.append(begin)
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        room = 1 if self._is_crowded else REQUESTS_PER_TURN
        self._is_scheduled = self._is_crowded = False
        self._begun = min(room, len(self._waiting))
        if self._begun:
            self._schedule()
        for _ in range(self._begun):
            self._waiting.popleft()()
