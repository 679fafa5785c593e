"""Figures of each system, ratios of two systems, and how ratios compare with an earlier run's.

A figure has a value in each round and is their median. Every ratio is defined so that more is
better, and is the median of the rounds' own ratios: another program that took the machine for one
round took it from both sides.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.systems import INT8, OURS
from bundler.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.measure import Measured

FORMAT = 2
LEAST = 0.9  # of an earlier ratio: below that, a run is worse
RATE = "texts/s"
ALONE, CEILING = "itself alone", "the GEMM ceiling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of one system: the samples of a round that it sums up, and how it is shown.

    It is a quantile of them or, without one, their sum, divided by `scale`; a rate is the number of
    texts divided by that sum. Those that `is_compared` make ratios of two systems.
    """

    title: str
    measure: str
    unit: str = RATE
    quantile: float | None = None
    scale: float = 1.0
    digits: int = 1
    is_compared: bool = True

    def rounds(self, measured: Measured, system: str) -> list[float]:
        """Return its value in each round, none if it was not measured."""
        found = measured.rounds(system, self.measure)
        texts = measured.corpus["texts"]
        if self.measure == "requests":
            texts = min(texts, measured.effort.requests * measured.effort.request_size)
        sums = [
            float(sum(values) if self.quantile is None else np.percentile(values, self.quantile))
            for values in found
        ]
        return [texts / value if self.unit == RATE else value / self.scale for value in sums]

    def value(self, measured: Measured, system: str) -> float:
        """Return the median of its rounds, NaN if it was not measured."""
        return median(self.rounds(measured, system) or [math.nan])

    def text(self, value: float) -> str:
        """Return a value as it is shown, without its unit."""
        return "" if math.isnan(value) else f"{value:.{self.digits}f}"


SINGLE = Figure(title="one text p50", measure="single", unit="ms", quantile=50, scale=1e-3)
TAIL = replace(SINGLE, quantile=95, is_compared=False)
FIGURES = (
    Figure(title="all texts at once", measure="whole"),
    Figure(title="requests", measure="requests"),
    SINGLE,
    replace(TAIL, title="one text p95"),
    replace(TAIL, title="one text p99", quantile=99),
    replace(TAIL, title="one text beside bulk p95", measure="beside"),
    Figure(title="start to first vector", measure="start", unit="s", digits=2),
    Figure(title="private memory", measure="private", unit="MB", scale=1e6, digits=0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio of `system` to `against`: the rounds' own ratios, and their median `value`."""

    system: str
    against: str
    name: str
    value: float
    rounds: Sequence[float]


def ratios(measured: Measured) -> list[Ratio]:
    """Return the ratios of our service, in float32 and in int8, to the other systems.

    Two more are of one system: its latency alone to that beside a bulk client, and the arithmetic
    of the real tokens to the GEMM ceiling, of which int8 has another.
    """
    found: list[Ratio] = []
    for system in (name for name in (OURS, INT8) if name in measured.systems):
        for against in (name for name in measured.systems if name not in {system, INT8}):
            for figure in (figure for figure in FIGURES if figure.is_compared):
                own, other = (figure.rounds(measured, name) for name in (system, against))
                over, under = (own, other) if figure.unit == RATE else (other, own)
                found += _ratio(system, against, figure.measure, over, under)
        latency = (replace(TAIL, measure=name) for name in ("alone", "beside"))
        over, under = (figure.rounds(measured, system) for figure in latency)
        found += _ratio(system, ALONE, "beside", over, under)
    rates = [each["ceiling"] for each in measured.samples.values() if "ceiling" in each]
    ceilings = [max(rate for (rate,) in of_round) for of_round in zip(*rates, strict=True)]
    done = [measured.flops / seconds for (seconds,) in measured.rounds(OURS, "whole")]
    return [*found, *_ratio(OURS, CEILING, "ceiling", done, ceilings)]


def _ratio(
    system: str, against: str, name: str, over: Sequence[float], under: Sequence[float]
) -> Iterator[Ratio]:
    """Yield the ratio of two figures' rounds, if both were measured."""
    if over and under:
        rounds = [a / b for a, b in zip(over, under, strict=True)]
        value = median(rounds)
        yield Ratio(system=system, against=against, name=name, value=value, rounds=rounds)


def read_ratios(path: Path) -> dict[str, float]:
    """Return the ratios of the run saved in `path`. Raises UsageError if it is no such file."""
    try:
        run: dict[str, Any] = json.loads(path.read_bytes())
        if run["format"] != FORMAT:
            raise ValueError(f"its format is {run['format']}, not {FORMAT}")  # noqa: TRY301
        return named_ratios(run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not a run to compare with",
            why=str(error),
            next_step="python3 build bench --output FOLDER writes FOLDER/bench.json",
        ) from error


def named_ratios(run: Mapping[str, Any]) -> dict[str, float]:
    """Return every ratio of a run, by names that say what has to be the same to compare it."""
    return {
        f"{model['model']}, {model['corpus']['texts']} texts, {model['threads']} threads: "
        f"{ratio['system']} / {ratio['against']}, {ratio['name']}": float(ratio["value"])
        for model in run["models"]
        for ratio in model["ratios"]
    }


def require_no_worse(before: Mapping[str, float], now: Mapping[str, float]) -> None:
    """Raise VerificationError if a ratio fell, UsageError if none is in both runs."""
    common = before.keys() & now.keys()
    if not common:
        raise UsageError(
            "the runs have no ratio in common",
            why="they measured other models or systems",
            next_step="compare with a run of the same options",
        )
    worse = sorted(key for key in common if now[key] < LEAST * before[key])
    if worse:
        raise VerificationError(
            f"{len(worse)} of {len(common)} ratios fell below {LEAST} of the earlier run's",
            why="; ".join(f"{key}: {before[key]:.2f}, now {now[key]:.2f}" for key in worse),
            next_step="measure both again on a quiet machine, then look for what changed",
        )
