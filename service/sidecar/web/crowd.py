"""The connections that wait for a request: so many are kept, and the oldest go first."""

from __future__ import annotations

import asyncio
from typing import Protocol

from sidecar.process.clock import Clock
from sidecar.settings import Bounds


class Waiter(Protocol):
    """A connection without a request."""

    def drop(self) -> bool:
        """Close the connection unless a request is there already; return whether it was closed."""
        ...


class Crowd:
    """Drops the connections that have waited longest when there are too many.

    None is dropped in its first moments: of a thousand that open at once, all are about to send.
    """

    def __init__(self, bounds: Bounds, clock: Clock) -> None:
        """Begin with nobody."""
        self._bounds = bounds
        self._clock = clock
        self._since: dict[Waiter, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._since)

    def join(self, waiter: Waiter) -> None:
        """Let `waiter` be the youngest."""
        self._since.pop(waiter, None)
        self._since[waiter] = self._clock.time()
        self._watch()

    def make_room(self) -> None:
        """Drop the one that waited longest now; none if all are at work."""
        for waiter in list(self._since):
            self.leave(waiter)
            if waiter.drop():
                break

    def leave(self, waiter: Waiter) -> None:
        """Let `waiter` be safe: it has a request, or is gone."""
        self._since.pop(waiter, None)

    def _watch(self) -> None:
        if self._timer is None and len(self._since) > self._bounds.max_idle:
            oldest = next(iter(self._since.values()))
            wait = max(oldest + self._bounds.grace_s - self._clock.time(), 0.01)
            self._timer = asyncio.get_running_loop().call_later(wait, self._thin_out)

    def _thin_out(self) -> None:
        self._timer = None
        patient = self._clock.tick() - self._bounds.grace_s
        surplus = len(self._since) - self._bounds.max_idle
        for waiter, since in list(self._since.items())[: max(surplus, 0)]:
            if since > patient:
                break
            self.leave(waiter)
            waiter.drop()
        self._watch()
