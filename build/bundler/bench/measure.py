"""One subject measured from its first start to its last answer, as plain data."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from bundler.bench import cost, rounds
from bundler.bench.contenders import Variant, open_field
from bundler.bench.corpus import histogram
from bundler.bench.figures import latency, percentile
from bundler.bench.flops import read_work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bundler.bench.baseline import FirstVector
    from bundler.bench.contenders import Contender, Say
    from bundler.bench.corpus import Corpus
    from bundler.bench.effort import Effort
    from bundler.bench.peers import Absent, Peer
    from bundler.bench.rounds import Findings
    from bundler.bench.served import Start
    from bundler.bench.subject import Subject

OURS, INT8 = "sidecar", "sidecar int8"
# Each is started and measured; one that this machine refuses is absent.
VARIANTS = (Variant(name=OURS), Variant(name=INT8, options=("--precision", "int8")))
Data = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """The peers that are measured beside us, those that are not, and where they may write."""

    peers: Sequence[Peer]
    absent: Sequence[Absent]
    folder: Path


def measure(subject: Subject, corpus: Corpus, effort: Effort, others: Others, say: Say) -> Data:
    """Return everything that was measured of `subject` and of all beside it.

    Raises SmokeError if our service does not start or does not answer, UsageError for a model whose
    arithmetic is not known.
    """
    work = read_work(subject.snapshot)
    field_ = open_field(
        subject.program,
        VARIANTS,
        others.peers,
        snapshot=subject.snapshot,
        first=corpus.texts[0],
        rounds=effort.starts,
        folder=others.folder,
        say=say,
    )
    with closing(field_):
        found = rounds.run(field_, corpus, effort, work, say)
        contenders = [_contender(each, corpus, effort) for each in field_.contenders]
        absent = [*field_.absent, *others.absent]
    say("measuring what an answer costs")
    return {
        "name": subject.name,
        "origin": subject.program.origin,
        "weights": subject.weights,
        "threads": subject.program.threads,
        "model": asdict(work),
        "effort": asdict(effort),
        "corpus": _corpus(corpus, found),
        "work": {
            "tokens": sum(found.lengths),
            "flops": work.total(found.lengths),
            "flops_per_token": work.total(found.lengths) / max(1, sum(found.lengths)),
        },
        "ceilings": found.ceilings,
        "others": found.others,
        "contenders": contenders,
        "absent": [asdict(each) for each in absent],
        "sweep": [asdict(cell) for cell in found.sweep],
        "vectors": _vectors(found),
        "writing": [asdict(each) for each in cost.measure(subject.program)],
    }


def _corpus(corpus: Corpus, found: Findings) -> Data:
    lengths = found.lengths
    return {
        "texts": len(corpus.texts),
        "digest": corpus.digest,
        "sources": corpus.sources(),
        "histogram": [{"tokens": name, "texts": count} for name, count in histogram(lengths)],
        "tokens": {
            "mean": sum(lengths) / len(lengths),
            "p50": percentile(lengths, 0.5),
            "p95": percentile(lengths, 0.95),
            "max": max(lengths),
        },
    }


def _contender(each: Contender, corpus: Corpus, effort: Effort) -> Data:
    """Return what was measured of one, seconds round by round and their summary."""
    return {
        "name": each.name,
        "kind": each.kind,
        "info": each.info,
        "starts": [_start(start) for start in each.starts],
        "whole_s": each.whole,
        "requests_s": each.requests,
        "singles_s": each.singles,
        "bulk_s": each.bulk,
        "crowds": [asdict(crowd) for crowd in each.crowds],
        "beside": [asdict(beside) for beside in each.beside],
        "private_bytes": each.private,
        "peak_bytes": each.peak,
        "summary": {
            "whole_texts_per_s": len(corpus.texts) / median(each.whole),
            "requests_texts_per_s": median(
                [len(seconds) * effort.request_size / sum(seconds) for seconds in each.requests]
            ),
            "request": asdict(latency([s for seconds in each.requests for s in seconds])),
            "single": asdict(latency([s for seconds in each.singles for s in seconds])),
        },
    }


def _start(start: Start | FirstVector | float) -> Data:
    return {"vector_s": start} if isinstance(start, float) else asdict(start)


def _vectors(found: Findings) -> Data:
    """Return how near everybody's vectors are to the reference's, and how well they find."""
    return {
        "reference": found.reference,
        "contenders": [
            {
                "name": name,
                "cosine": asdict(found.likeness[name]) if name in found.likeness else None,
                "agreement": asdict(found.agreement[name]) if name in found.agreement else None,
                "retrieval": asdict(found.retrieval[name]) if name in found.retrieval else None,
            }
            for name in sorted({*found.likeness, *found.retrieval})
        ],
    }
