"""What is computed next: pure policy, no thread and no clock of its own.

Requests of any clients share batches. Two lanes: a few tokens that somebody waits for go ahead of
bulk work, between its batches. A batch is as large as it takes time: long ones are efficient, but
hold up whoever comes next, so they are short while interactive requests come in.
"""

from __future__ import annotations

from typing import Literal

from sidecar.scheduling.jobs import Batch, Claim, Job
from sidecar.scheduling.lanes import Lane, Room
from sidecar.scheduling.pace import MAX_TOKENS, Pace
from sidecar.settings import Limits

Priority = Literal["auto", "interactive", "bulk"]
INTERACTIVE_TOKENS = 256  # of a request that does not say what it is
CALM_S = 0.4  # a batch that holds up nobody who is waited for
BUSY_S = 0.016  # a bulk batch that an interactive request may come to wait for
FIXED_PARTS = 3  # of its fixed cost, if that is more: else little but that would be computed
BUSY_MOST_S = 3 * BUSY_S
LATELY_S = 2.0
CLAIMED = 0.5  # of a lane's budget, that long requests may have together
TURNS = 4  # of a short bulk batch, that interactive work may take before it when both wait


def is_interactive(priority: Priority, tokens: int) -> bool:
    """Return whether a request of that priority and so many tokens goes ahead of bulk work."""
    return priority == "interactive" or (priority == "auto" and tokens <= INTERACTIVE_TOKENS)


class Scheduler:
    """Holds the jobs that wait, and says which texts the engine gets next.

    Not safe under concurrent calls: its owner holds a lock. Times are seconds of any one clock.
    """

    def __init__(self, limits: Limits) -> None:
        """Begin empty; `limits` bound every batch."""
        self.pads = True
        self.best_tokens = MAX_TOKENS
        self._limits = limits
        self._pace = Pace()
        self._interactive = Lane()
        self._bulk = Lane()
        self._claims: set[Claim] = set()
        self._seen = float("-inf")  # when the last interactive job came
        self._owed = 0  # interactive tokens computed while bulk work waited

    @property
    def queued(self) -> dict[str, int]:
        """The tokens that wait, by lane."""
        lanes = {"interactive": self._interactive, "bulk": self._bulk}
        return {name: lane.queued_tokens for name, lane in lanes.items()}

    @property
    def queued_tokens(self) -> int:
        """The tokens that wait in both lanes."""
        return self._interactive.queued_tokens + self._bulk.queued_tokens

    @property
    def claims(self) -> int:
        """How many long requests are computed part by part."""
        return len(self._claims)

    def wait_s(self, tokens: int, *, is_interactive: bool) -> float:
        """Return in how many seconds, about, there will be room for so many tokens; 0 for now.

        What finds its lane empty has room, however much it is: else it would never be computed.
        """
        lane = self._lane(is_interactive=is_interactive)
        claims = [claim for claim in self._claims if claim.is_interactive == is_interactive]
        taken = lane.queued_tokens + sum(self._unused(claim) for claim in claims)
        surplus = taken + tokens - self._limits.max_queued_tokens
        if not taken or surplus <= 0:
            return 0.0
        ahead = 0 if is_interactive else self._interactive.queued_tokens
        return self._pace.seconds_for(min(surplus, max(lane.queued_tokens, 1)) + ahead)

    def claim_wait_s(self, claim: Claim) -> float:
        """Return in how many seconds, about, `claim` may have its share; 0 for now.

        Together they leave half of the budget to short requests, which come and go while these
        stay. One that is alone may have any.
        """
        claims = [other for other in self._claims if other.is_interactive == claim.is_interactive]
        most = CLAIMED * self._limits.max_queued_tokens
        if claims and claim.tokens + sum(other.tokens for other in claims) > most:
            return self._pace.seconds_for(self._limits.max_queued_tokens)
        return self.wait_s(claim.tokens, is_interactive=claim.is_interactive)

    def enter(self, claim: Claim) -> None:
        """Keep the share of `claim` until it leaves."""
        self._claims.add(claim)

    def leave(self, claim: Claim) -> None:
        """Give back the share of `claim`."""
        self._claims.discard(claim)

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
        is_busy = len(self._interactive) > 0 or now - self._seen < LATELY_S
        bulk = self._room(self._busy_s() if is_busy else CALM_S)
        is_bulks_turn = self._owed >= TURNS * bulk.max_tokens or not len(self._interactive)
        if len(self._bulk) and is_bulks_turn:
            self._owed = 0
            return self._bulk.take(bulk)
        if not len(self._interactive):
            return None
        batch = self._interactive.take(self._room(CALM_S))
        self._owed = self._owed + batch.tokens if len(self._bulk) else 0
        return batch

    def observe(self, batch: Batch, seconds: float) -> None:
        """Learn how long `batch` took."""
        self._pace.observe(batch.tokens, seconds)

    def _lane(self, *, is_interactive: bool) -> Lane:
        return self._interactive if is_interactive else self._bulk

    def _unused(self, claim: Claim) -> int:
        lane = self._lane(is_interactive=claim.is_interactive)
        return max(claim.tokens - lane.tokens_of(claim), 0)

    def _busy_s(self) -> float:
        return min(max(BUSY_S, FIXED_PARTS * self._pace.fixed_s), BUSY_MOST_S)

    def _room(self, seconds: float) -> Room:
        return Room(
            max_tokens=min(
                self._pace.tokens_for(seconds), self._limits.max_batch_tokens, self.best_tokens
            ),
            max_rows=self._limits.max_batch_rows,
            pads=self.pads,
        )
