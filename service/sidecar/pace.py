"""How many tokens make a batch of a wanted length in time, learnt from the batches before."""

from __future__ import annotations

MIN_TOKENS = 64
MAX_TOKENS = 4096
FIRST_GUESS_S = 2e-4  # per token, until something was measured
MEMORY = 0.8  # what a measurement still weighs after the next one
SURPRISE = 10.0  # a machine that slept in a batch has not become slow


class Pace:
    """A running estimate of seconds per token.

    Batches weigh by their tokens, so that the fixed cost of a small one does not pass for speed.
    """

    def __init__(self) -> None:
        """Begin with a guess that the first measurement replaces."""
        self._tokens = 0.0
        self._seconds = 0.0

    @property
    def seconds_per_token(self) -> float:
        """The estimate."""
        return self._seconds / self._tokens if self._tokens else FIRST_GUESS_S

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from a batch of `tokens` that took `seconds`."""
        if tokens <= 0 or seconds <= 0:
            return
        if self._tokens:
            seconds = min(seconds, SURPRISE * tokens * self.seconds_per_token)
        self._tokens = MEMORY * self._tokens + tokens
        self._seconds = MEMORY * self._seconds + seconds

    def tokens_for(self, seconds: float) -> int:
        """Return how many tokens are computed in `seconds`, between MIN_TOKENS and MAX_TOKENS."""
        return int(min(max(seconds / self.seconds_per_token, MIN_TOKENS), MAX_TOKENS))
