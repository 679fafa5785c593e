"""The figures that matter, each with its definition: most are ratios of two sides of one run.

A ratio is the median of the rounds' ratios, so that a neighbour who took the machine for one round
took it from both sides.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from bundler.bench.aims import aim
from bundler.bench.figures import paired, percentile
from bundler.bench.measure import INT8, OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Data = dict[str, Any]

Unit = Literal["ratio", "s", "bytes", "share"]
REFERENCE = "sentence-transformers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the summary. A value of None was not measured, and `why` says why."""

    subject: str
    name: str
    title: str
    unit: Unit
    value: float | None
    why: str = ""

    def document(self) -> Data:
        """Return it as plain data, beside what we want it to be."""
        wanted = aim(self.name, self.subject)
        is_met = None if wanted is None or self.value is None else wanted.is_met(self.value)
        goal = None if wanted is None else {"sign": wanted.sign, "bound": wanted.bound}
        return {**asdict(self), "aim": goal, "is_met": is_met}


class Missing(Exception):  # noqa: N818 - no error: it becomes a line that says so
    """One side of a figure was not measured; the message says which."""


class Sides:
    """The contenders of a measured subject, by name."""

    def __init__(self, measured: Data) -> None:
        """Look into what `measure` returned."""
        self.measured = measured
        self._found = {each["name"]: each for each in measured["contenders"]}
        self._absent = {each["name"]: each["why"] for each in measured["absent"]}

    def get(self, name: str) -> Data:
        """Return one. Raises Missing with the reason."""
        if name not in self._found:
            raise Missing(f"{name} is absent: {self._absent.get(name, 'not measured')}")
        contender: Data = self._found[name]
        return contender

    def peers(self) -> list[str]:
        """Return the names of the other servers."""
        return [name for name, each in self._found.items() if each["kind"] == "peer"]


def figures(measured: Data) -> list[Figure]:
    """Return the figures of one subject, in the order of the summary."""
    sides = Sides(measured)
    found = [_figure(sides, name, title, unit, work) for name, title, unit, work in _definitions()]
    for peer in sides.peers():
        for name, title in (("whole", "whole corpus, texts/s"), ("requests", "requests, texts/s")):
            work = _over(peer, name)
            found.append(
                _figure(sides, f"{peer}-{name}", f"{title}, against {peer}", "ratio", work)
            )
    return found


def _figure(
    sides: Sides, name: str, title: str, unit: Unit, work: Callable[[Sides], float]
) -> Figure:
    subject, value, why = sides.measured["name"], None, ""
    try:
        value = work(sides)
    except Missing as missing:
        why = str(missing)
    return Figure(subject=subject, name=name, title=title, unit=unit, value=value, why=why)


def _definitions() -> Iterator[tuple[str, str, Unit, Callable[[Sides], float]]]:
    yield "start", f"process start to first vector, against {REFERENCE}", "ratio", _start
    yield "port", "process start to the port answering", "s", _port
    yield "whole", f"whole corpus, texts/s, against {REFERENCE}", "ratio", _over(REFERENCE, "whole")
    title = f"requests of mixed lengths, texts/s, against {REFERENCE}"
    yield "requests", title, "ratio", _over(REFERENCE, "requests")
    yield "crowd", "many clients with one text each, against one bulk client", "ratio", _crowd
    yield "single", f"single text, p50, against {REFERENCE}", "ratio", _single
    yield "beside", "single text, p95, beside a bulk client against alone", "ratio", _beside
    yield "ceiling", "arithmetic of the real tokens, of the GEMM ceiling", "share", _ceiling
    yield "private", "private memory while serving", "bytes", _bytes("private_bytes")
    yield "peak", "peak resident memory", "bytes", _bytes("peak_bytes")
    yield "int8", "int8, whole corpus, texts/s, against float32", "ratio", _int8
    yield "int8-ndcg", "int8, nDCG@10 of the ranking by float32", "share", _quality("ndcg")
    yield "int8-recall", "int8, recall@10 of the ranking by float32", "share", _quality("recall")
    yield "json", "building the JSON of 1,000 vectors of 768", "s", _json


def _over(name: str, what: str) -> Callable[[Sides], float]:
    """Return how many times the texts per second of `name` ours are."""

    def work(sides: Sides) -> float:
        seconds = [
            [sum(s) if isinstance(s, list) else s for s in sides.get(each)[f"{what}_s"]]
            for each in (name, OURS)
        ]
        return paired(*seconds)

    return work


def _start(sides: Sides) -> float:
    ours, theirs = sides.get(OURS)["starts"], sides.get(REFERENCE)["starts"]
    return paired([s["vector_s"] for s in ours], [s["vector_s"] for s in theirs])


def _port(sides: Sides) -> float:
    return median([float(start["port_s"]) for start in sides.get(OURS)["starts"]])


def _crowd(sides: Sides) -> float:
    ours = sides.get(OURS)
    if failures := sum(crowd["failures"] for crowd in ours["crowds"]):
        raise Missing(f"{failures} requests failed")
    return paired(ours["bulk_s"], [crowd["seconds"] for crowd in ours["crowds"]])


def _single(sides: Sides) -> float:
    seconds = [
        [percentile(values, 0.5) for values in sides.get(each)["singles_s"]]
        for each in (OURS, REFERENCE)
    ]
    return paired(*seconds)


def _beside(sides: Sides) -> float:
    found = sides.get(OURS)["beside"]
    if failures := sum(each["failures"] for each in found):
        raise Missing(f"{failures} requests failed")
    busy, idle = ([percentile(each[key], 0.95) for each in found] for key in ("busy", "idle"))
    return paired(busy, idle)


def _ceiling(sides: Sides) -> float:
    flops = sides.measured["work"]["flops"]
    done = [flops / seconds for seconds in sides.get(OURS)["whole_s"]]
    best = [max(rates.values()) for rates in sides.measured["ceilings"]]
    return paired(done, best)


def _bytes(key: str) -> Callable[[Sides], float]:
    def work(sides: Sides) -> float:
        found = sides.get(OURS)[key]
        if found is None:
            raise Missing("this system does not say it: Linux does")
        return float(found)

    return work


def _int8(sides: Sides) -> float:
    return paired(sides.get(OURS)["whole_s"], sides.get(INT8)["whole_s"])


def _quality(key: str) -> Callable[[Sides], float]:
    def work(sides: Sides) -> float:
        sides.get(INT8)
        found = {each["name"]: each for each in sides.measured["vectors"]["contenders"]}
        return float(found[INT8]["agreement"][key])

    return work


def _json(sides: Sides) -> float:
    found = {each["form"]: each["seconds"] for each in sides.measured["writing"]}
    if "as_json" not in found:
        raise Missing("the service has no such function")
    return float(found["as_json"])
