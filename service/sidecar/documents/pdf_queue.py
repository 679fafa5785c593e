"""Which of many documents is read next, which goes back to wait, and which is refused.

What a document costs is known only when it has been read: 83 KB may take ten seconds, 20 MB a
tenth of one. So each begins with a short turn, in a slot that long documents do not get. One that
takes longer keeps its slot while fewer than all others are long, or while nobody waits; else it
goes on later, with the page after those that were read, in its turn among the long ones.
"""

from __future__ import annotations

import asyncio

from sidecar.problems import busy

TURN_S = 1.0
# All that wait have had a first turn in about this time: with many, turns are shorter.
ROUND_S = 8.0
# Small ones go first, as if they had come earlier; in the end every one is the oldest.
BYTES_PER_S = 1 << 14
LONGEST_HEAD_START_S = 10.0
FIRST_GUESS_S = 1.0
MEMORY = 0.8  # what the mean still weighs after another document


class PdfTurn:
    """What one document has: a place to wait, or to be read; `over` is done when that is lost."""

    def __init__(self, queue: PdfQueue, rank: float) -> None:
        """Wait; the lower the `rank`, the sooner it is read."""
        self.rank = rank
        self.is_long = False
        self.read_since: float | None = None
        self._queue = queue
        self._renew()

    def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        self.granted: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()

    async def wait(self) -> None:
        """Return when it may be read."""
        await self.granted

    def ready(self) -> None:
        """Let its time begin: a process can read it."""
        if self.read_since is None:
            self.read_since = asyncio.get_running_loop().time()
            self._queue.arrange()

    def go_back(self) -> None:
        """Wait among the long ones, to go on later. Raises Problem 429 if too many do."""
        self._queue.require_room(is_long=True)
        self._queue.forget(self)
        self.is_long, self.read_since = True, None
        self._renew()
        self._queue.enter(self)

    def leave(self) -> None:
        """Need nothing any more: it was read or given up."""
        if self.read_since is not None:
            self._queue.learn(asyncio.get_running_loop().time() - self.read_since)
        self._queue.forget(self)
        self._queue.arrange()


class PdfQueue:
    """Room for `size` documents that take long, and for one more in its first turn."""

    def __init__(
        self, size: int, *, max_waiting: int, turn_s: float = TURN_S, round_s: float = ROUND_S
    ) -> None:
        """Begin with nobody; `max_waiting` may wait for their first turn, and as many after it."""
        self._size = size
        self._max_waiting = max_waiting
        self._turn_s = turn_s
        self._round_s = round_s
        self._mean_s = FIRST_GUESS_S
        self._waiting: list[PdfTurn] = []
        self._running: list[PdfTurn] = []  # in the order in which they were granted
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def join(self, size: int) -> PdfTurn:
        """Return the slot of a document of `size` bytes. Raises Problem 429."""
        self.require_room()
        head_start = min(size / BYTES_PER_S, LONGEST_HEAD_START_S)
        slot = PdfTurn(self, asyncio.get_running_loop().time() + head_start)
        self.enter(slot)
        return slot

    def require_room(self, *, is_long: bool = False) -> None:
        """Raise Problem 429 if as many wait for their first turn, or after it, as may.

        So long ones, however many, do not keep short ones out.
        """
        if sum(slot.is_long is is_long for slot in self._waiting) >= self._max_waiting:
            what = "too many PDFs are queued"
            why = f"{self._max_waiting} may wait, and as many that were found to take long"
            raise busy(what, why, retry_s=self._expected_s())

    def enter(self, slot: PdfTurn) -> None:
        """Let `slot` wait."""
        self._waiting.append(slot)
        self._waiting.sort(key=lambda other: other.rank)
        self.arrange()

    def forget(self, slot: PdfTurn) -> None:
        """Take `slot` away from wherever it is."""
        for found in (self._waiting, self._running):
            if slot in found:
                found.remove(slot)

    def learn(self, seconds: float) -> None:
        """Note how long a document was read."""
        self._mean_s = MEMORY * self._mean_s + (1 - MEMORY) * seconds

    def arrange(self) -> None:
        """Grant what is free, and end the turns of those who keep others waiting."""
        now = asyncio.get_running_loop().time()
        fresh = [slot for slot in self._waiting if not slot.is_long]
        again = [slot for slot in self._waiting if slot.is_long]
        turn_s = min(self._turn_s, self._round_s / max(len(fresh), 1))
        long = [slot for slot in self._running if _is_long(slot, now, turn_s)]
        while len(self._running) <= self._size:
            if again and len(long) < self._size:
                slot = again.pop(0)
                long.append(slot)
            elif fresh:
                slot = fresh.pop(0)
            else:
                break
            self._waiting.remove(slot)
            self._running.append(slot)
            _settle(slot.granted)
        surplus = len(long) - self._size
        if self._waiting and surplus > 0:
            # Those that were begun last have the least to lose.
            for slot in [slot for slot in long if not slot.is_long][-surplus:]:
                _settle(slot.over)
        self._watch(now, turn_s)

    def _watch(self, now: float, turn_s: float) -> None:
        """Arrange again when the next turn is over."""
        ends = [
            slot.read_since + turn_s
            for slot in self._running
            if slot.read_since is not None and not _is_long(slot, now, turn_s)
        ]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if ends and self._waiting:
            self._timer = asyncio.get_running_loop().call_at(min(ends), self.arrange)

    def _expected_s(self) -> float:
        """Return when one that comes now might be begun, as far as those before it tell."""
        now = asyncio.get_running_loop().time()
        since = [slot.read_since for slot in self._running if slot.read_since is not None]
        running_s = sum(now - moment for moment in since) / max(len(since), 1)
        return max(self._mean_s, running_s) * (len(self._waiting) + 1) / self._size


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():  # whoever waits for it may have been cancelled
        future.set_result(None)


def _is_long(slot: PdfTurn, now: float, turn_s: float) -> bool:
    return slot.is_long or (slot.read_since is not None and now - slot.read_since >= turn_s)
