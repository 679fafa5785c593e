"""The work of requests, text by text, and batches of such texts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


class Job:
    """Texts of one request as token ids, and the rows of shape (texts, dim) they become.

    A short request is one job; a long one has one after the other, all with its `reservation`.
    `first` is the index of the first text in the request.

    A queue alone touches what waits; the thread that computes alone fills rows. `close` may come
    from any thread: queued texts of a closed job are discarded.
    """

    __slots__ = (
        "_ids",
        "_missing",
        "_waiting",
        "first",
        "is_interactive",
        "is_open",
        "key",
        "problem",
        "queued_tokens",
        "reservation",
        "rows",
    )

    def __init__(
        self,
        ids: Sequence[Sequence[int]],
        *,
        dim: int,
        key: BatchKey,
        is_interactive: bool,
        reservation: Reservation | None = None,
        first: int = 0,
    ) -> None:
        """Hold `ids`, one sequence per text."""
        self._ids = ids
        self._missing = len(ids)
        self._waiting = sorted(QueuedItem(len(found), -index) for index, found in enumerate(ids))
        self.queued_tokens = sum(map(len, ids))
        self.rows: Vectors = np.zeros((len(ids), dim), dtype=np.float32)
        self.key = key
        self.reservation = reservation
        self.first = first
        self.is_interactive = is_interactive
        self.is_open = True
        self.problem: Problem | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether some of its texts are still in the queue."""
        return bool(self._waiting)

    @property
    def request(self) -> object:
        """What all jobs of one request have in common, and no others."""
        return self.reservation or self

    def ids(self, place: int) -> Sequence[int]:
        """Return the token ids of one text."""
        return self._ids[place]

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
        return self.job.ids(self.place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Texts of any jobs for one call of the engine; `tokens` is what the engine computes on."""

    items: tuple[BatchItem, ...]
    key: BatchKey
    tokens: int
