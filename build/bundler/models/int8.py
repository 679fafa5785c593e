"""How near a model's int8 vectors come to its own, and how near they must stay.

Measured once, when a model is locked, by arithmetic that is the same on every processor. What is
measured and the limits that follow are data in the lock, so every machine decides alike.
"""

from __future__ import annotations

from dataclasses import dataclass

DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosines:
    """Cosines between golden vectors and others: the worst of all texts, and their mean."""

    worst: float
    mean: float

    def holds(self, least: Cosines) -> bool:
        """Return whether both are at or above `least`; a NaN is not."""
        return self.worst >= least.worst and self.mean >= least.mean


# Between layers float32 differs in its last bits from processor to processor, and what lies between
# two bytes is then rounded the other way: by so much less may vectors be as near elsewhere.
MARGIN = Cosines(worst=0.001, mean=0.0003)
# Dynamic quantisation of a sentence model commonly costs a fifth to a half of this. Beyond it
# rankings suffer, and the model is locked without int8.
USEFUL = Cosines(worst=0.95, mean=0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8:
    """What was measured over all golden texts when the model was locked, and the limits.

    `least` is None where the model is too far off to have int8.
    """

    measured: Cosines
    least: Cosines | None = None


def judge(found: Cosines) -> Int8:
    """Return what a lock says of a model that measured `found`."""
    measured = Cosines(worst=round(found.worst, DIGITS), mean=round(found.mean, DIGITS))
    if not measured.holds(USEFUL):
        return Int8(measured=measured)
    return Int8(
        measured=measured,
        least=Cosines(
            worst=round(measured.worst - MARGIN.worst, DIGITS),
            mean=round(measured.mean - MARGIN.mean, DIGITS),
        ),
    )


def lower(one: Cosines, other: Cosines) -> Cosines:
    """Return the lower of both figures."""
    return Cosines(worst=min(one.worst, other.worst), mean=min(one.mean, other.mean))


def settle(fresh: Int8 | None, old: Int8 | None) -> Int8 | None:
    """Return `old` if `fresh` differs by no more than processors do, else `fresh`.

    Without this a lock refreshed on another machine would read as a change.
    """
    if fresh is None or old is None or (fresh.least is None) != (old.least is None):
        return fresh
    off = Cosines(
        worst=abs(fresh.measured.worst - old.measured.worst),
        mean=abs(fresh.measured.mean - old.measured.mean),
    )
    return old if MARGIN.holds(off) else fresh
