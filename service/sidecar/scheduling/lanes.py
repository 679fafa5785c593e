"""One lane of the queue: jobs take turns, and texts of like length share a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from sidecar.scheduling.jobs import Batch, Job, Piece, Waiting

WASTE = 1.5  # computed tokens per real one that padding may cost
WASTE_TOKENS = 64  # and this many on top, where a call of its own would cost more
LOOKED_AT = 256  # jobs in line whose texts may share a batch: more cost more than they save


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one batch may hold; a text over the tokens goes alone.

    With `pads` every row counts as long as the longest one.
    """

    max_tokens: int
    max_rows: int
    pads: bool


class _Filling:
    """A batch in the making."""

    def __init__(self, room: Room) -> None:
        self.pieces: list[Piece] = []
        self.widest = 0
        self.tokens = 0
        self.real = 0
        self._room = room

    @property
    def rows_left(self) -> int:
        return self._room.max_rows - len(self.pieces)

    def offer(self, job: Job, text: Waiting) -> bool:
        """Take `text` out of its job if it fits; return whether it did."""
        rows = len(self.pieces) + 1
        widest = max(self.widest, text.length)
        real = self.real + text.length
        tokens = widest * rows if self._room.pads else real
        if self.pieces and (
            rows > self._room.max_rows
            or tokens > self._room.max_tokens
            or tokens > WASTE * real + WASTE_TOKENS
        ):
            return False
        self.pieces.append(job.take(text))
        self.widest, self.tokens, self.real = widest, tokens, real
        return True


class Lane:
    """Jobs in turns: each leads one batch, then goes to the end of the line.

    Turns rather than first come, first served: a request of ten thousand texts holds up one of
    fifty by a batch, not by a minute, and no request can be kept waiting for ever.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._jobs: deque[Job] = deque()
        self.queued_tokens = 0  # the real ones of all texts that wait

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        """Yield the jobs, the next to lead first."""
        return iter(self._jobs)

    def add(self, job: Job) -> None:
        """Put `job` at the end of the line."""
        self._jobs.append(job)
        self.queued_tokens += job.queued_tokens

    def remove(self, job: Job) -> None:
        """Take `job` out of the line, if it is there: one that waits for nothing is not."""
        if job.is_waiting:
            with suppress(ValueError):
                self._jobs.remove(job)
                self.queued_tokens -= job.queued_tokens

    def take(self, room: Room) -> Batch:
        """Return the next batch; the lane is not empty.

        The leading job's longest texts, and if that was all of them, texts of other jobs in the
        same space, the nearest in length first. Longest first: if memory runs out, it does so at
        once.
        """
        lead = self._jobs.popleft()
        filling = _Filling(room)
        while lead.is_waiting and filling.offer(lead, lead.longest()):
            pass
        if lead.is_waiting:
            self._jobs.append(lead)
        elif filling.rows_left > 0:
            self._add_company(lead, filling)
        self.queued_tokens -= filling.real
        pieces = sorted(filling.pieces, key=lambda piece: -len(piece.ids))
        return Batch(pieces=tuple(pieces), space=lead.space, tokens=filling.tokens)

    def _add_company(self, lead: Job, filling: _Filling) -> None:
        near = [
            (abs(text.length - filling.widest), turn, text.behind, text, job)
            for turn, job in enumerate(islice(self._jobs, LOOKED_AT))
            if job.space == lead.space
            for text in job.near(filling.widest, count=filling.rows_left)
        ]
        for *_, text, job in sorted(near, key=lambda found: found[:2]):
            if not filling.offer(job, text):
                break
        if any(not job.is_waiting for job in self._jobs):
            self._jobs = deque(job for job in self._jobs if job.is_waiting)
