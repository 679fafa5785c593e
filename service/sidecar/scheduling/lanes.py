"""One lane of the queue: requests take turns, and texts of like length share a batch."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

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
    """Requests in turns: each leads one batch, then goes to the end of the line.

    Turns rather than first come, first served: a request of ten thousand texts holds up one of
    fifty by a batch, not by a minute, and no request can be kept waiting for ever.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._line: OrderedDict[object, deque[Job]] = OrderedDict()  # by request
        self.queued_tokens = 0  # the real ones of all texts that wait

    def __len__(self) -> int:
        """Return how many requests wait."""
        return len(self._line)

    def __iter__(self) -> Iterator[Job]:
        """Yield the jobs, those of the request that leads next first."""
        return chain.from_iterable(self._line.values())

    def tokens_of(self, request: object) -> int:
        """Return how many tokens of one request wait."""
        return sum(job.queued_tokens for job in self._line.get(request, ()))

    def add(self, job: Job) -> None:
        """Put `job` at the end of the line, or behind the job of its request that is in it."""
        self._line.setdefault(job.request, deque()).append(job)
        self.queued_tokens += job.queued_tokens

    def remove(self, job: Job) -> None:
        """Take `job` out of the line, if it is there."""
        jobs = self._line.get(job.request, deque())
        if job in jobs:
            jobs.remove(job)
            self.queued_tokens -= job.queued_tokens
            if not jobs:
                del self._line[job.request]

    def take(self, room: Room) -> Batch:
        """Return the next batch; the lane is not empty.

        The longest texts of the leading request's first job, then of its next; and if that was all
        of them, texts of others in the same space, the nearest in length first. Longest first: if
        memory runs out, it does so at once.
        """
        request, jobs = self._line.popitem(last=False)
        lead = jobs[0]
        filling = _Filling(room)
        while jobs and filling.offer(jobs[0], jobs[0].longest()):
            if not jobs[0].is_waiting:
                jobs.popleft()
        if jobs:
            self._line[request] = jobs
        elif filling.rows_left > 0:
            self._add_company(lead, filling)
        self.queued_tokens -= filling.real
        pieces = sorted(filling.pieces, key=lambda piece: -len(piece.ids))
        return Batch(pieces=tuple(pieces), space=lead.space, tokens=filling.tokens)

    def _add_company(self, lead: Job, filling: _Filling) -> None:
        near = [
            (abs(text.length - filling.widest), turn, text.behind, text, job)
            for turn, job in enumerate(islice(self, LOOKED_AT))
            if job.space == lead.space
            for text in job.near(filling.widest, count=filling.rows_left)
        ]
        for *_, text, job in sorted(near, key=lambda found: found[:2]):
            if not filling.offer(job, text):
                break
            if not job.is_waiting:
                self.remove(job)
