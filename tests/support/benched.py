"""What the tests of the bench share: our service around a stub engine, and a run made up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bundler.bench.effort import Effort
from bundler.bench.ratios import figures
from bundler.bench.served import CHECKOUT, Program

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "tests" / "support" / "stub_service.py"
TEXTS = tuple(f"text number {number} has words" for number in range(24))
TINY = Effort(
    texts=24,
    rounds=2,
    starts=1,
    requests=2,
    singles=4,
    clients=4,
    crowd_texts=8,
    beside=3,
    bulk_size=8,
    sweep_texts=8,
    sweep_sizes=(1, 4),
    sweep_clients=(1, 2),
    ceiling_rows=(8,),
    request_size=8,
    pause_s=0.001,
)


class Meter:
    """A baseline that knows the ceiling at once."""

    threads = 1

    def __init__(self, **_: object) -> None:
        pass

    def ceiling(self, *_: object) -> dict[str, float]:
        return {"numpy": 1e9}

    def close(self) -> None:
        pass


def stub_program(*options: str) -> Program:
    """Return our own service with a stub engine in it."""
    return Program(
        words=(sys.executable, "-I", "-B", str(STUB)),
        service=ROOT / "service",
        origin=CHECKOUT,
        threads=1,
        options=options,
    )


def contender(name: str, kind: str, *, slower: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Return what might have been measured of one, so many times slower than ours."""
    is_served = kind != "baseline"
    return {
        "name": name,
        "kind": kind,
        "info": {},
        "starts": [{"port_s": 0.5, "vector_s": 1.0 * slower, "phases": [["loading", 0.6]]}],
        "whole_s": [10.0 * slower, 12.0 * slower],
        "requests_s": [[1.0 * slower, 2.0 * slower], [1.0 * slower, 1.0 * slower]],
        "singles_s": [[0.01 * slower, 0.02 * slower, 0.03 * slower]] * 2,
        "bulk_s": [4.0, 4.0] if is_served else [],
        "crowds": [{"texts": 8, "seconds": 5.0, "latencies": [1.0, 2.0], "failures": 0}] * 2
        if is_served
        else [],
        "beside": [{"idle": [0.01, 0.01], "busy": [0.03, 0.03], "failures": 0}]
        if is_served
        else [],
        "private_bytes": 200_000_000,
        "peak_bytes": 300_000_000,
        "summary": {
            "whole_texts_per_s": 2.2 / slower,
            "requests_texts_per_s": 3.3 / slower,
            "request": {"count": 4, "p50": 1.0, "p95": 2.0, "p99": 2.0},
            "single": {"count": 6, "p50": 0.02, "p95": 0.03, "p99": 0.03},
        },
        **changes,
    }


def quality(value: float) -> dict[str, Any]:
    """Return a retrieval measure."""
    return {"queries": 24, "ndcg": value, "recall": value}


def subject(**changes: Any) -> dict[str, Any]:
    """Return what `measure` might have returned for minilm."""
    return {
        "name": "minilm",
        "origin": "bundle linux-x64",
        "weights": "whole",
        "threads": 2,
        "model": {"layers": 6, "width": 384, "inner": 1536},
        "effort": {"request_size": 8},
        "corpus": {
            "texts": 24,
            "digest": "0" * 64,
            "sources": {"Python's documentation topics": 24},
            "histogram": [{"tokens": "1-8", "texts": 24}],
            "tokens": {"mean": 6.0, "p50": 6, "p95": 8, "max": 8},
        },
        "work": {"tokens": 144, "flops": 6e11, "flops_per_token": 22e6},
        "ceilings": [{"numpy": 80e9, "torch": 100e9}, {"numpy": 50e9, "torch": 40e9}],
        "others": [0.01, None],
        "contenders": [
            contender(
                "sentence-transformers",
                "baseline",
                slower=3.0,
                starts=[{"vector_s": 8.0, "import_s": 6.0, "load_s": 1.0}],
            ),
            contender("sidecar", "sidecar"),
            contender("sidecar int8", "sidecar", slower=0.5),
            contender("<peer> & Co", "peer", slower=2.0, private_bytes=None),
        ],
        "absent": [{"name": "ollama", "why": "it is not\n  installed"}],
        "sweep": [{"clients": 4, "size": 8, "texts": 8, "seconds": 2.0, "p95": 0.5, "failures": 0}],
        "vectors": {
            "reference": "sentence-transformers",
            "contenders": [
                {
                    "name": "sidecar int8",
                    "cosine": {"smallest": 0.97, "mean": 0.99},
                    "agreement": quality(0.95),
                    "retrieval": quality(0.5),
                },
                {
                    "name": "sentence-transformers",
                    "cosine": None,
                    "agreement": None,
                    "retrieval": quality(0.6),
                },
            ],
        },
        "writing": [{"form": "as_json", "seconds": 0.05, "size": 9_000_000}],
        **changes,
    }


def made_run(*subjects: dict[str, Any]) -> dict[str, Any]:
    """Return what `run` might have returned."""
    measured = list(subjects) or [subject()]
    return {
        "format": 1,
        "machine": {
            "processor": "A Processor",
            "usable_cores": 2,
            "system": "Linux",
            "date": "2020-01-01T00:00:00+00:00",
            "load_average": [0.1, 0.1, 0.1],
            "flags": ["avx2"],
        },
        "threads": 2,
        "subjects": measured,
        "figures": [figure.document() for each in measured for figure in figures(each)],
    }
