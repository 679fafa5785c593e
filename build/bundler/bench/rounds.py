"""The measuring itself: rounds in which everybody has a turn, so that noise hits all alike."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Any

from bundler.bench import load, memory, neighbours
from bundler.bench.baseline import Baseline
from bundler.bench.figures import percentile
from bundler.bench.quality import agreement, judge, likeness, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bundler.bench.contenders import Contender, Field, Say
    from bundler.bench.corpus import Corpus
    from bundler.bench.effort import Effort
    from bundler.bench.flops import Work
    from bundler.bench.quality import Likeness, Retrieval


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One cell of the sweep: so many clients with requests of so many texts."""

    clients: int
    size: int
    texts: int
    seconds: float
    p95: float
    failures: int


@dataclass(kw_only=True)
class Findings:
    """What is not one contender's own: lengths, ceilings, the sweep, comparisons of vectors."""

    lengths: list[int] = field(default_factory=list)
    ceilings: list[dict[str, float]] = field(default_factory=list)
    sweep: list[Swept] = field(default_factory=list)
    others: list[float | None] = field(default_factory=list)
    likeness: dict[str, Likeness] = field(default_factory=dict)
    agreement: dict[str, Retrieval] = field(default_factory=dict)
    retrieval: dict[str, Retrieval] = field(default_factory=dict)
    reference: str = ""


def run(field_: Field, corpus: Corpus, effort: Effort, work: Work, say: Say) -> Findings:
    """Measure everybody in `effort.rounds` rounds; every second round goes the other way round."""
    texts = corpus.texts
    found = Findings(lengths=field_.ours.tokens(texts))
    batches = load.cut(texts, effort.request_size)[: effort.requests]
    singles = [[text] for text in texts[: effort.singles]]
    threads = field_.ours.info.get("threads")
    for each in field_.contenders:
        each.in_turn(batches[:1])  # nobody's first request is counted
    meter = Baseline(threads=_threads(field_, threads))
    try:
        for number in range(effort.rounds):
            say(f"measuring, round {number + 1} of {effort.rounds}")
            before = neighbours.now()
            order = field_.contenders if number % 2 == 0 else field_.contenders[::-1]
            around = [_ceiling(meter, work, effort)]
            for each in order:
                with memory.watch(each.pid) as watched:
                    each.whole.append(each.all_at_once(texts))
                each.private = max(each.private or 0, watched.most or 0) or None
            around.append(_ceiling(meter, work, effort))
            found.ceilings.append(_between(around))
            for each in order:
                each.requests.append(each.in_turn(batches))
            for each in order:
                each.singles.append(each.in_turn(singles))
            for each in (one for one in order if one.target is not None):
                _crowd(each, texts, effort, is_bulk_first=number % 2 == 0)
            share = neighbours.taken(before, neighbours.now(), cores=os.cpu_count() or 1)
            found.others.append(share)
            if share is not None and share > neighbours.LOUD:
                say(f"not quiet: other programs took {share:.0%} of the machine in this round")
    finally:
        meter.close()
    say("measuring one client beside another")
    for each in field_.served():
        _beside(each, texts, effort)
    say("measuring batch sizes and clients")
    found.sweep = _sweep(field_.ours, texts, effort)
    say("comparing vectors")
    _compare(field_, corpus, found)
    for each in field_.contenders:
        seen = memory.read(each.pid)
        each.peak = seen.peak if seen else None
    return found


def _threads(field_: Field, told: Any) -> int:  # noqa: ANN401 - JSON
    process = field_.baseline.process if field_.baseline else None
    return process.threads if process else int(told or 1)


def _ceiling(meter: Baseline, work: Work, effort: Effort) -> dict[str, float]:
    best: dict[str, float] = {}
    for rows in effort.ceiling_rows:
        for name, rate in meter.ceiling(work, rows).items():
            best[name] = max(best.get(name, 0.0), rate)
    return best


def _between(around: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the means of what was measured before and after."""
    return {name: mean([rates[name] for rates in around]) for name in around[0]}


def _crowd(each: Contender, texts: Sequence[str], effort: Effort, *, is_bulk_first: bool) -> None:
    target = each.target
    if target is None:
        return
    chosen = list(texts[: effort.crowd_texts])
    if is_bulk_first:
        each.bulk.append(load.in_turn(target, [chosen])[0])
    each.crowds.append(load.crowd(target, chosen, clients=effort.clients))
    if not is_bulk_first:
        each.bulk.append(load.in_turn(target, [chosen])[0])


def _beside(each: Contender, texts: Sequence[str], effort: Effort) -> None:
    if each.target is not None:
        size = min(effort.bulk_size, each.target.largest)
        singles = texts[: effort.beside]
        each.beside.append(load.beside(each.target, singles, texts[-size:], pause_s=effort.pause_s))


def _sweep(ours: Contender, texts: Sequence[str], effort: Effort) -> list[Swept]:
    cells: list[Swept] = []
    if ours.target is None:
        return cells
    chosen = list(texts[: effort.sweep_texts])
    for clients in effort.sweep_clients:
        for size in effort.sweep_sizes:
            seen = load.crowd(ours.target, chosen, clients=clients, size=size)
            cells.append(
                Swept(
                    clients=clients,
                    size=size,
                    texts=len(chosen),
                    seconds=seen.seconds,
                    p95=percentile(seen.latencies or [0.0], 0.95),
                    failures=seen.failures,
                )
            )
    return cells


def _compare(field_: Field, corpus: Corpus, found: Findings) -> None:
    """Compare all vectors with the baseline's, or with our first variant's where there is none."""
    reference = field_.baseline or field_.ours
    found.reference = reference.name
    texts = corpus.texts
    titles = sorted({p.title for p in corpus.paragraphs if p.title is not None})
    gains = [
        {place: 1.0 for place, p in enumerate(corpus.paragraphs) if p.title == title}
        for title in titles
    ]
    expected = reference.vectors(texts)
    for each in field_.contenders:
        rows = expected if each is reference else each.vectors(texts)
        if each is not reference and rows.shape == expected.shape:
            found.likeness[each.name] = likeness(rows, expected)
            found.agreement[each.name] = agreement(rows, expected)
        if titles:
            found.retrieval[each.name] = judge(nearest(each.vectors(titles), rows), gains)
