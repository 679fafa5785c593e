"""How many tokens make a batch of a wanted length in time, learnt from the batches before."""

from __future__ import annotations

MIN_TOKENS = 64
MAX_TOKENS = 4096
FIRST_GUESS_S = 2e-4  # per token, until something was measured
MEMORY = 0.9  # what a measurement still weighs after the next one
SURPRISE = 10.0  # a machine that slept in a batch has not become slow
SPREAD = 0.1  # of sizes, around their mean, that a slope can be told from
LEAST_SLOPE = 0.1  # of the time: noise may make a larger batch look faster than a smaller one


class Pace:
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
