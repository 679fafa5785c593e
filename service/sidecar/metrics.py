"""What happened in this run, in plain numbers: to count costs next to nothing.

Every number has one thread that writes it, the event loop's or the one that computes, so none needs
a lock. A reader may see one value that is a moment older than another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus

from sidecar.problems import CLIENT_CLOSED

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
OTHER = "other"  # every path that is no route: what clients make up must not become labels
DOCUMENTS = ("/embed-file", "/embed-file/upload")


@dataclass(slots=True)
class Histogram:
    """How many times took how long: a count per bucket, the last for all that took longer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds


@dataclass(slots=True, kw_only=True)
class Counts:
    """The numbers of one run; all of them only grow.

    `requests` are answers by route and status, 499 where the client left before its answer.
    `documents` are those asked for, by what became of them. `slow_readers` are connections that
    were ended for taking too little of an answer. `tokens` are what was computed, special
    tokens included.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, Histogram] = field(default_factory=dict)
    documents: Counter[str] = field(default_factory=Counter)
    slow_readers: int = 0
    texts: int = 0
    tokens: int = 0
    batches: int = 0
    batch_s: float = 0.0

    def answer(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self.requests[route, status] += 1
        self.seconds.setdefault(route, Histogram()).observe(seconds)
        if route in DOCUMENTS:
            self.documents[_outcome(status)] += 1

    def with_status(self, status: int) -> int:
        """Return how many answers had `status`."""
        return sum(count for (_, found), count in list(self.requests.items()) if found == status)


def _outcome(status: int) -> str:
    if status < HTTPStatus.BAD_REQUEST:
        return "embedded"
    if status == CLIENT_CLOSED:
        return "client-gone"
    return "refused" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"
