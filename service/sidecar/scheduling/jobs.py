"""The work of requests, text by text, and batches of such texts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

import numpy as np

from sidecar.engines import Vectors
from sidecar.problems import Problem


class BatchKey(NamedTuple):
    """What texts must have in common to be encoded in one call."""

    pooling: str
    normalize: bool


class QueuedItem(NamedTuple):
    """A text that waits, in an order in which the longest is last, and of equals the first."""

    length: int
    behind: int

    @property
    def place(self) -> int:
        """The text's index in its job."""
        return -self.behind


@dataclass(frozen=True, eq=False, kw_only=True)
class Reservation:
    """The share of a lane that a long request has from its first job to the end of its last.

    No more than `tokens` of it wait at a time.
    """

    tokens: int
    is_interactive: bool


@dataclass(eq=False, slots=True)
class Job:
    """Texts of one request as token ids, and the rows of shape (texts, dim) they become.

    A short request is one job; a long one has one after the other, all with its `reservation`.
    `first` is the index of the first text in the request.

    A queue alone touches what waits; the thread that computes alone fills rows. `close` may come
    from any thread: queued texts of a closed job are discarded.
    """

    ids: Sequence[Sequence[int]]
    _: KW_ONLY
    dim: int
    key: BatchKey
    is_interactive: bool
    reservation: Reservation | None = None
    first: int = 0
    is_open: bool = True
    problem: Problem | None = None
    rows: Vectors = field(init=False)
    queued_tokens: int = field(init=False)
    _missing: int = field(init=False)
    _waiting: list[QueuedItem] = field(init=False)

    def __post_init__(self) -> None:
        """Let all of its texts wait."""
        lengths = [len(found) for found in self.ids]
        self.rows = np.zeros((len(lengths), self.dim), dtype=np.float32)
        self.queued_tokens = sum(lengths)
        self._missing = len(lengths)
        self._waiting = sorted(QueuedItem(length, -at) for at, length in enumerate(lengths))

    @property
    def is_waiting(self) -> bool:
        """Whether some of its texts are still in the queue."""
        return bool(self._waiting)

    @property
    def request(self) -> object:
        """What all jobs of one request have in common, and no others."""
        return self.reservation or self

    def longest(self) -> QueuedItem:
        """Return the longest text that waits."""
        return self._waiting[-1]

    def near(self, length: int, *, count: int) -> Iterator[QueuedItem]:
        """Yield up to `count` waiting texts on either side of `length`."""
        middle = bisect_right(self._waiting, (length, 0))
        yield from self._waiting[max(0, middle - count) : middle + count]

    def take(self, text: QueuedItem) -> BatchItem:
        """Return a waiting text, which waits no longer."""
        if text is self._waiting[-1]:
            self._waiting.pop()
        else:
            del self._waiting[bisect_left(self._waiting, text)]
        self.queued_tokens -= text.length
        return BatchItem(self, text.place)

    def fill(self, place: int, row: Vectors) -> bool:
        """Keep the vector of one text; return whether the job has all of them now."""
        self.rows[place] = row
        self._missing -= 1
        return self._missing == 0

    def close(self, problem: Problem | None = None) -> bool:
        """End the job, with a problem if it failed; return whether it was open until now."""
        was_open, self.is_open = self.is_open, False
        if was_open:
            self.problem = problem
        return was_open


class BatchItem(NamedTuple):
    """One text of one job, by its index there."""

    job: Job
    place: int

    @property
    def ids(self) -> Sequence[int]:
        """The text's token ids."""
        return self.job.ids[self.place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Texts of any jobs for one call of the engine; `tokens` is what the engine computes on."""

    items: tuple[BatchItem, ...]
    key: BatchKey
    tokens: int
