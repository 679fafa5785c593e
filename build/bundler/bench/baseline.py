"""The in-process baseline: what a program gets that imports sentence-transformers itself."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.bench.client import decode_rows
from bundler.bench.served import thread_settings
from bundler.bench.worker import Worker
from bundler.launch import scrubbed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from bundler.bench.flops import Work

PROGRAM = Path(__file__).with_name("baseline_program.py")
NAME = "sentence-transformers"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstVector:
    """Seconds from the start of a process to its first vector, and what they went into."""

    vector_s: float
    import_s: float
    load_s: float


def is_here() -> bool:
    """Return whether this environment has sentence-transformers."""
    return importlib.util.find_spec("sentence_transformers") is not None


class Baseline:
    """A process that measures for us; `load` before anything but `ceiling`."""

    def __init__(self, *, threads: int) -> None:
        """Start it with so many threads."""
        self.threads = threads
        self.facts: dict[str, Any] = {}
        self._started = time.perf_counter()
        self.worker = Worker(
            [sys.executable, "-I", "-B", str(PROGRAM)],
            environment={**scrubbed(os.environ), **thread_settings(threads)},
            name=NAME,
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self.worker.process.pid

    def load(self, snapshot: Path, first: str) -> FirstVector:
        """Load the model and make one vector. Raises ModelError."""
        self.facts = self.worker.ask(do="load", folder=str(snapshot), threads=self.threads)
        self.worker.ask(do="encode", texts=[first])
        return FirstVector(
            vector_s=time.perf_counter() - self._started,
            import_s=float(self.facts["import_s"]),
            load_s=float(self.facts["load_s"]),
        )

    def whole(self, texts: Sequence[str]) -> float:
        """Return the seconds of one call for all texts."""
        return float(self.worker.ask(do="encode", texts=list(texts))["seconds"])

    def in_turn(self, batches: Sequence[Sequence[str]]) -> list[float]:
        """Return the seconds of a call for each batch, one after the other."""
        found = self.worker.ask(do="requests", batches=[list(batch) for batch in batches])
        return [float(seconds) for seconds in found["seconds"]]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors, a row for each text."""
        found = self.worker.ask(do="vectors", texts=list(texts))
        return decode_rows(found["rows"], int(found["dim"]))

    def ceiling(self, work: Work, rows: int) -> dict[str, float]:
        """Return per library the operations per second of the model's own products."""
        products = [[list(shape), count] for shape, count in work.products(rows)]
        found = self.worker.ask(do="gemm", products=products, threads=self.threads)
        self.facts.setdefault("versions", found["versions"])
        return {name: float(rate) for name, rate in found["rates"].items()}

    def close(self) -> None:
        """End the process."""
        self.worker.close()
