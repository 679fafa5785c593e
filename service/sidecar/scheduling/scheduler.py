"""Which texts are computed next: pure policy, without a thread and without a clock.

Requests of any clients share batches, those of one model at a time. Two lanes: a few tokens that a
user waits for go ahead of bulk work, between its batches. A batch is as large as it takes time:
long ones are efficient, but hold up the next request, so they are short while interactive requests
come in.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import chain, islice
from typing import Literal, NamedTuple

import numpy as np

from sidecar.engines import Vectors
from sidecar.engines.packed.architecture import SMALLEST_NORM
from sidecar.problems import Problem
from sidecar.settings import Limits


class BatchKey(NamedTuple):
    """What texts must have in common to be encoded in one call; `model` is the model's number."""

    pooling: str
    normalize: bool
    model: int = 0


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
    `first` is the index of the first text in the request. Vectors longer than `dim` are cut to it,
    and then normalised if the key says so.

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
        self.rows[place] = row if len(row) == self.dim else self._cut(row)
        self._missing -= 1
        return self._missing == 0

    def _cut(self, row: Vectors) -> Vectors:
        """Return what is kept of a row that is longer than those of the job."""
        kept = row[: self.dim]
        if self.key.normalize:
            kept = kept / max(float(np.linalg.norm(kept)), SMALLEST_NORM)
        return kept

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


MIN_TOKENS = 64
MAX_TOKENS = 4096
FIRST_GUESS_S = 2e-4  # per token, until something was measured
MEMORY = 0.9  # what a measurement still weighs after the next one
SURPRISE = 10.0  # a machine that slept in a batch has not become slow
SPREAD = 0.1  # of sizes, around their mean, that a slope can be told from
LEAST_SLOPE = 0.1  # of the time: noise may make a larger batch look faster than a smaller one


class Throughput:
    """A running estimate of a batch's seconds: a fixed part, and so much for each token.

    A line through the last measurements, old ones fading. The fixed part matters: taken for a
    low speed it would make batches small, and small ones would confirm it.
    """

    def __init__(self) -> None:
        """Begin with a guess that the first measurement replaces."""
        self.fixed_s = 0.0
        self.per_token_s = FIRST_GUESS_S
        self._weight = 0.0
        self._tokens = self._seconds = self._squares = self._products = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from a batch of `tokens` that took `seconds`."""
        if tokens <= 0 or seconds <= 0:
            return
        if self._weight:
            seconds = min(seconds, SURPRISE * (self.fixed_s + tokens * self.per_token_s))
        is_first = not self._weight
        self._weight = MEMORY * self._weight + 1
        self._tokens = MEMORY * self._tokens + tokens
        self._seconds = MEMORY * self._seconds + seconds
        self._squares = MEMORY * self._squares + tokens * tokens
        self._products = MEMORY * self._products + tokens * seconds
        size, time = self._tokens / self._weight, self._seconds / self._weight
        variance = self._squares / self._weight - size * size
        if variance > (SPREAD * size) ** 2:
            slope = (self._products / self._weight - size * time) / variance
            share = min(max(slope * size / time, LEAST_SLOPE), 1.0)
        elif is_first:
            share = 0.5  # neither extreme makes the next batch useless as a second point
        else:
            share = max(1 - self.fixed_s / time, LEAST_SLOPE)
        self.per_token_s = share * time / size
        self.fixed_s = (1 - share) * time

    def seconds_for(self, tokens: int) -> float:
        """Return how long `tokens` take in batches of the largest size."""
        return tokens * (self.per_token_s + self.fixed_s / MAX_TOKENS)

    def tokens_for(self, seconds: float) -> int:
        """Return how many tokens are computed in `seconds`, between MIN_TOKENS and MAX_TOKENS."""
        wanted = (seconds - self.fixed_s) / self.per_token_s
        return int(min(max(wanted, MIN_TOKENS), MAX_TOKENS))


WASTE = 1.5  # computed tokens per real one that padding may cost
WASTE_TOKENS = 64  # and this many on top, where a separate call would cost more
LOOKED_AT = 256  # jobs in line whose texts may share a batch: more cost more than they save
SHARED_AT_MOST = 1024  # texts of all of them on either side of a length: a batch has a quarter


@dataclass(slots=True, kw_only=True)
class BatchBuilder:
    """A batch in the making, and what it may hold; a text over the tokens goes alone.

    With `pads` every row counts as long as the longest one.
    """

    max_tokens: int
    max_rows: int
    pads: bool
    items: list[BatchItem] = field(default_factory=list)
    widest: int = 0
    tokens: int = 0
    real: int = 0

    @property
    def rows_left(self) -> int:
        """How many more texts it may hold."""
        return self.max_rows - len(self.items)

    def offer(self, job: Job, text: QueuedItem) -> bool:
        """Take `text` out of its job if it fits; return whether it did."""
        rows = len(self.items) + 1
        widest = max(self.widest, text.length)
        real = self.real + text.length
        tokens = widest * rows if self.pads else real
        if self.items and (
            rows > self.max_rows or tokens > self.max_tokens or tokens > WASTE * real + WASTE_TOKENS
        ):
            return False
        self.items.append(job.take(text))
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

    @property
    def model(self) -> int:
        """The number of the model whose texts are next; the lane is not empty."""
        return next(iter(self._line.values()))[0].key.model

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

    def take(self, filling: BatchBuilder) -> Batch:
        """Return the next batch, made in the empty `filling`; the lane is not empty.

        The longest texts of the leading request's first job, then of its next; and if that was all
        of them, texts of others in the same space, the nearest in length first. Longest first: if
        memory runs out, it does so at once.
        """
        request, jobs = self._line.popitem(last=False)
        lead = jobs[0]
        while jobs and filling.offer(jobs[0], jobs[0].longest()):
            if not jobs[0].is_waiting:
                jobs.popleft()
        if jobs:
            self._line[request] = jobs
        elif filling.rows_left > 0:
            self._add_company(lead, filling)
        self.queued_tokens -= filling.real
        items = sorted(filling.items, key=lambda item: -len(item.ids))
        return Batch(items=tuple(items), key=lead.key, tokens=filling.tokens)

    def _add_company(self, lead: Job, filling: BatchBuilder) -> None:
        count = min(filling.rows_left, max(SHARED_AT_MOST // max(len(self), 1), 1))
        near = [
            (abs(text.length - filling.widest), turn, text.behind, text, job)
            for turn, job in enumerate(islice(self, LOOKED_AT))
            if job.key == lead.key
            for text in job.near(filling.widest, count=count)
        ]
        for *_, text, job in sorted(near, key=lambda found: found[:2]):
            if not filling.offer(job, text):
                break
            if not job.is_waiting:
                self.remove(job)


Priority = Literal["auto", "interactive", "bulk"]
INTERACTIVE_TOKENS = 256  # of a request that does not say what it is
CALM_S = 0.4  # a batch that holds up no interactive request
BUSY_S = 0.016  # a bulk batch that an interactive request may come to wait for
FIXED_PARTS = 3  # of its fixed cost, if that is more: else little but that would be computed
BUSY_MOST_S = 3 * BUSY_S
LATELY_S = 2.0
RESERVED = 0.5  # of a lane's budget, that long requests may have together
TURNS = 4  # of a short bulk batch, that interactive work may take before it when both wait


def is_interactive(priority: Priority, tokens: int) -> bool:
    """Return whether a request of that priority and so many tokens goes ahead of bulk work."""
    return priority == "interactive" or (priority == "auto" and tokens <= INTERACTIVE_TOKENS)


@dataclass(slots=True)
class Traits:
    """What the size of a model's batches goes by: two facts of its engine, and its speed."""

    pads: bool = True
    best_tokens: int = MAX_TOKENS
    pace: Throughput = field(default_factory=Throughput)


class Scheduler:
    """Holds the jobs that wait, and says which texts the engine gets next.

    Not safe under concurrent calls: its owner holds a lock. Times are seconds of any one clock.
    """

    def __init__(self, limits: Limits) -> None:
        """Begin empty; `limits` bound every batch."""
        self.traits: defaultdict[int, Traits] = defaultdict(Traits)  # by the model's number
        self._limits = limits
        self._interactive = Lane()
        self._bulk = Lane()
        self.reservations: set[Reservation] = set()  # long requests, computed part by part
        self._seen = float("-inf")  # when the last interactive job came
        # Interactive tokens computed while bulk work waited; those of another model count as many
        # of the bulk work's as take as long.
        self._owed = 0.0

    @property
    def queued(self) -> dict[str, int]:
        """The tokens that wait, by lane."""
        lanes = {"interactive": self._interactive, "bulk": self._bulk}
        return {name: lane.queued_tokens for name, lane in lanes.items()}

    def wait_s(self, tokens: int, *, is_interactive: bool) -> float:
        """Return in how many seconds, about, there will be room for so many tokens; 0 for now.

        What finds its lane empty has room, however much it is: else it would never be computed.
        """
        lane = self._lane(is_interactive=is_interactive)
        alike = (one for one in self.reservations if one.is_interactive == is_interactive)
        taken = lane.queued_tokens + sum(map(self._unused, alike))
        surplus = taken + tokens - self._limits.max_queued_tokens
        if not taken or surplus <= 0:
            return 0.0
        ahead = 0 if is_interactive else self._interactive.queued_tokens
        return self._seconds_for(min(surplus, max(lane.queued_tokens, 1)) + ahead)

    def reservation_wait_s(self, reservation: Reservation) -> float:
        """Return in how many seconds, about, `reservation` may have its share; 0 for now.

        Together they leave half of the budget to short requests, which come and go while these
        stay. One that is alone may have any.
        """
        is_interactive = reservation.is_interactive
        taken = sum(one.tokens for one in self.reservations if one.is_interactive == is_interactive)
        most = RESERVED * self._limits.max_queued_tokens
        if taken and reservation.tokens + taken > most:
            return self._seconds_for(self._limits.max_queued_tokens)
        return self.wait_s(reservation.tokens, is_interactive=is_interactive)

    def add(self, job: Job, now: float) -> None:
        """Let `job`, which has texts, wait in its lane."""
        if job.is_interactive:
            self._seen = now
        self._lane(is_interactive=job.is_interactive).add(job)

    def remove(self, job: Job) -> None:
        """Forget what of `job` still waits."""
        self._lane(is_interactive=job.is_interactive).remove(job)

    def clear(self) -> list[Job]:
        """Forget everything that waits, and return it."""
        jobs = [*self._interactive, *self._bulk]
        self._interactive, self._bulk = Lane(), Lane()
        return jobs

    def take(self, now: float) -> Batch | None:
        """Return the next batch, None if nothing waits.

        While both lanes wait, bulk work has a short batch each time that TURNS as much, or one
        batch, was computed for interactive requests: it is slowed down and never stopped.
        """
        is_ahead = len(self._interactive) > 0
        if not len(self._bulk):
            self._owed = 0
            return self._interactive.take(self._calm(self._interactive)) if is_ahead else None
        is_busy = is_ahead or now - self._seen < LATELY_S
        bulk = self._busy(self._bulk) if is_busy else self._calm(self._bulk)
        if self._owed >= TURNS * bulk.max_tokens or not is_ahead:
            self._owed = 0
            return self._bulk.take(bulk)
        batch = self._interactive.take(self._calm(self._interactive))
        self._owed += batch.tokens * self._slowness(batch.key.model, self._bulk.model)
        return batch

    def _lane(self, *, is_interactive: bool) -> Lane:
        return self._interactive if is_interactive else self._bulk

    def _unused(self, reservation: Reservation) -> int:
        lane = self._lane(is_interactive=reservation.is_interactive)
        return max(reservation.tokens - lane.tokens_of(reservation), 0)

    def _seconds_for(self, tokens: int) -> float:
        """Return how long so many tokens take, each model having the share that waits for it."""
        if len(self.traits) > 1:
            waiting = Counter[int]()
            for job in islice(chain(self._interactive, self._bulk), LOOKED_AT):
                waiting[job.key.model] += job.queued_tokens
            if total := waiting.total():
                return sum(
                    self.traits[model].pace.seconds_for(tokens) * part / total
                    for model, part in waiting.items()
                )
        return self.traits[0].pace.seconds_for(tokens)

    def _slowness(self, model: int, other: int) -> float:
        """Return how many tokens of the model `other` take as long as one of `model`."""
        if model == other:
            return 1.0
        seconds, others = (self.traits[one].pace.seconds_for(1) for one in (model, other))
        return seconds / others

    def _busy(self, lane: Lane) -> BatchBuilder:
        fixed_s = self.traits[lane.model].pace.fixed_s
        return self._room(lane, min(max(BUSY_S, FIXED_PARTS * fixed_s), BUSY_MOST_S))

    def _calm(self, lane: Lane) -> BatchBuilder:
        return self._room(lane, CALM_S)

    def _room(self, lane: Lane, seconds: float) -> BatchBuilder:
        traits = self.traits[lane.model]
        return BatchBuilder(
            max_tokens=min(
                traits.pace.tokens_for(seconds), self._limits.max_batch_tokens, traits.best_tokens
            ),
            max_rows=self._limits.max_batch_rows,
            pads=traits.pads,
        )
