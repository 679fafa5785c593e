"""Time that counts only while the event loop turns.

A process that was suspended, by SIGSTOP, a freezer of containers, a debugger or a laptop that
sleeps, could read nothing meanwhile, and nothing that it waited for is late because of that. Some
clocks go on during such times: CLOCK_MONOTONIC under SIGSTOP, the one of Windows in sleep, too.
Others stand still. So every deadline of the service is measured on this clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

TICK_S = 0.1
# No more than this counts of the time between two ticks: a loop that is late is busy, or was away.
STEP_S = 0.5
# A loop that was away for longer was suspended. What slept with it has a moment to come back.
AWAY_S = 1.0
GRACE_S = 1.0


class Clock:
    """Seconds in which the event loop of this process turned.

    `absences` counts how often it was away, for those that started work that went unwatched then.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        """Begin at zero; `now` is a clock in seconds that may stand still or leap."""
        self.absences = 0
        self._now = now
        self._mark = (now(), 0.0)  # a moment, and the seconds that had counted by then

    def time(self) -> float:
        """Return the seconds that count until now. From any thread; they never go back."""
        moment, counted = self._mark
        return counted + min(max(self._now() - moment, 0.0), STEP_S)

    def tick(self) -> float:
        """Note that the loop turns, and return the seconds that count. To be called on the loop."""
        now = self._now()
        moment, counted = self._mark
        passed = now - moment
        if -GRACE_S <= passed < 0:  # in the moment that others have to come back
            return counted
        counted += min(max(passed, 0.0), STEP_S)
        if passed > AWAY_S:
            self.absences += 1
            now += GRACE_S
        self._mark = (now, counted)
        return counted

    def run(self) -> None:
        """Tick for as long as the running event loop does."""
        self.tick()
        asyncio.get_running_loop().call_later(TICK_S, self.run)

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Call `call` on the running event loop once `seconds` more have counted."""
        self._look(self.tick() + seconds, call)

    def _look(self, due: float, call: Callable[[], object]) -> None:
        left = due - self.tick()
        if left <= 0:
            call()
        else:
            asyncio.get_running_loop().call_later(max(left, TICK_S), self._look, due, call)
