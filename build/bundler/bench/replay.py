"""Saved requests sent again as they are, and requests saved to be sent again.

A folder holds one JSON body of /embed per file, named *.json; they go out in the order of their
names.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.bench.figures import Latency, latency
from bundler.errors import UsageError
from bundler.files.replacement import replace_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bundler.bench.client import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of the saved requests. `failures` counts by status, 0 for no answer."""

    requests: int
    texts: int
    seconds: float
    latency: Latency | None
    failures: tuple[tuple[int, int], ...]

    def lines(self) -> Iterator[str]:
        """Yield what people read."""
        rate = self.texts / self.seconds if self.seconds else 0.0
        yield f"{self.requests} requests, {self.texts} texts, {self.seconds:.2f} s, {rate:.1f}/s"
        if self.latency is not None:
            found = self.latency
            values = (found.p50 * 1e3, found.p95 * 1e3, found.p99 * 1e3)
            yield "ms per request: p50 {:.1f}, p95 {:.1f}, p99 {:.1f}".format(*values)
        failed = ", ".join(f"{count} with status {status}" for status, count in self.failures)
        yield f"failures: {failed or 'none'}"


def read(folder: Path) -> list[tuple[str, bytes]]:
    """Return the bodies in `folder` by name, in order. Raises UsageError if there is none."""
    found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not found:
        raise UsageError(
            f"there are no saved requests in {folder}",
            why="a request is a file *.json with the body of /embed",
            next_step="python3 build bench --export FOLDER writes some",
        )
    return [(path.name, path.read_bytes()) for path in found]


def export(folder: Path, batches: Sequence[Sequence[str]]) -> None:
    """Write one request per batch into `folder`. Raises DiskError."""
    width = len(str(len(batches)))
    replace_files(
        {
            folder / f"{number:0{width}}.json": json.dumps(
                {"texts": list(texts)}, ensure_ascii=False
            )
            for number, texts in enumerate(batches, 1)
        }
    )


def replay(target: Target, bodies: Sequence[tuple[str, bytes]]) -> Replayed:
    """Send each body by one client, one after the other; a refusal is counted, not raised."""
    good, failures, texts, seconds = [], Counter[int](), 0, 0.0
    with target.connect() as connection:
        for _, body in bodies:
            answer = connection.post(body)
            seconds += answer.seconds
            if answer.is_good:
                good.append(answer.seconds)
                texts += len(target.vectors(answer.body))
            else:
                failures[answer.status] += 1
    return Replayed(
        requests=len(bodies),
        texts=texts,
        seconds=seconds,
        latency=latency(good) if good else None,
        failures=tuple(sorted(failures.items())),
    )
