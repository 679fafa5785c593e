"""Saved requests sent again as they are: batches that failed elsewhere, or a load of one's own.

A folder holds one JSON body of /embed in each file *.json; they go out in the order of their names.
"""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.client import send_all
from bundler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.client import Answer, Connect

SHOWN = 5  # names of requests for each kind of failure
COLUMNS = ("request", "status", "kind", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The response to each saved request, by file name, and the seconds for all of them."""

    answers: Sequence[tuple[str, Answer]]
    clients: int
    seconds: float

    def lines(self) -> Iterator[str]:
        """Yield the report: by status the number and latencies, then which requests failed."""
        rate = len(self.answers) / self.seconds
        yield (
            f"{len(self.answers)} requests by {self.clients} clients in {self.seconds:.2f} s, "
            f"{rate:.1f} requests/s"
        )
        yield ""
        yield "| status | requests | p50 ms | p95 ms | p99 ms |"
        yield "| --- | --- | --- | --- | --- |"
        for status in sorted({answer.status for _, answer in self.answers}):
            seconds = [answer.seconds for _, answer in self.answers if answer.status == status]
            p50, p95, p99 = (f"{value * 1e3:.1f}" for value in np.percentile(seconds, (50, 95, 99)))
            name = str(status or "no response")
            yield f"| {name} | {len(seconds)} | {p50} | {p95} | {p99} |"
        failed: dict[str, list[str]] = {}
        for name, answer in self.answers:
            if not answer.is_ok:
                failed.setdefault(f"{answer.status} {kind(answer)}".strip(), []).append(name)
        for what, names in failed.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"- {what}: {', '.join(names[:SHOWN])}{more}"

    def csv(self) -> str:
        """Return a line for every request, under COLUMNS."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, answer in self.answers:
            writer.writerow((name, answer.status, kind(answer), answer.seconds))
        return text.getvalue()


def read(folder: Path) -> list[tuple[str, bytes]]:
    """Return the bodies in `folder` with their names, in order. Raises UsageError without any."""
    found = sorted(folder.glob("*.json"))
    if not found:
        raise UsageError(
            f"there are no saved requests in {folder}",
            why="a request is a file *.json with the body of /embed",
        )
    return [(path.name, path.read_bytes()) for path in found]


def replay(connect: Connect, requests: Sequence[tuple[str, bytes]], *, clients: int) -> Replayed:
    """Send each body by the next of `clients` that is free; a failure is kept, not raised."""
    started = time.perf_counter()
    answers = send_all(connect, [body for _, body in requests], clients=clients)
    seconds = time.perf_counter() - started
    named = [(name, answer) for (name, _), answer in zip(requests, answers, strict=True)]
    return Replayed(answers=named, clients=clients, seconds=seconds)


def kind(answer: Answer) -> str:
    """Return the kind of problem that a response names (RFC 9457), or nothing."""
    if answer.is_ok:
        return ""
    try:
        problem: Any = json.loads(answer.body)
        return str(problem["type"]).rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return ""
