"""The arithmetic of measuring: percentiles, medians of rounds, ratios that say what they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long requests took, in seconds."""

    count: int
    p50: float
    p95: float
    p99: float


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of `values` lie, between neighbours by line.

    Raises ValueError if there are no values.
    """
    if not values:
        raise ValueError("no values")
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


def latency(values: Sequence[float]) -> Latency:
    """Return the percentiles of `values`. Raises ValueError if there are none."""
    p50, p95, p99 = (percentile(values, share) for share in (0.5, 0.95, 0.99))
    return Latency(count=len(values), p50=p50, p95=p95, p99=p99)


def paired(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the median of the quotients round by round, so that noise of a round hits both sides.

    Raises ValueError for other numbers of rounds, or a round of zero.
    """
    if len(over) != len(under) or 0 in under:
        raise ValueError("the rounds cannot be paired")
    return median([a / b for a, b in zip(over, under, strict=True)])
