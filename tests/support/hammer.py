"""Many clients at once against one service on this machine, each answer held against the truth.

python -m tests.support.hammer BUNDLE [REQUESTS] [CLIENTS] starts the bundle's service on loopback,
asks it, stops it, and prints failures, latencies and throughput.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.launch import RunningService
from tests.support.mixture import TEXTS, Answered, Mixture, load
from tests.support.vitals import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_REQUESTS, MAX_CLIENTS = 100_000, 256
START_SECONDS = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hammered:
    """What happened: failures by what they were, and the seconds of each request."""

    failures: Counter[str]
    latencies_s: tuple[float, ...]
    texts: int
    wall_s: float

    def report(self) -> str:
        """Return the figures as people read them."""
        lines = [f"requests   {len(self.latencies_s)} in {self.wall_s:.1f} s"]
        lines.append(f"failures   {self.failures.total()}")
        lines += [f"           {count} x {what}" for what, count in self.failures.most_common()]
        for rank in (50, 95):
            lines.append(f"p{rank}        {1000 * percentile(self.latencies_s, rank):.0f} ms")
        rate = len(self.latencies_s) / self.wall_s
        lines.append(f"throughput {rate:.1f} requests/s, {self.texts / self.wall_s:.1f} texts/s")
        return "\n".join(lines)


def hammer(port: int, folder: Path, *, requests: int, clients: int) -> Hammered:
    """Ask for `requests` answers by `clients` at once, each over one connection that it keeps.

    Every answer must have the vectors that the same texts get when they are asked for alone.
    """
    mixture, kinds = Mixture(port, folder), tuple(TEXTS)
    answered: list[Answered] = []
    failures: Counter[str] = Counter()
    plan = ((0.0, kinds[number % len(kinds)]) for number in range(requests))
    started = time.monotonic()
    load(mixture, plan, answered, failures, clients=clients)
    return Hammered(
        failures=failures,
        latencies_s=tuple(answer.took_s for answer in answered),
        texts=sum(TEXTS[answer.kind] for answer in answered),
        wall_s=time.monotonic() - started,
    )


def main(arguments: Sequence[str]) -> int:
    """Start, hammer, stop, report; 0 if nothing failed and it stopped with 0."""
    parser = argparse.ArgumentParser(prog="ci/count load", description="Count answers under load.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("requests", type=int, nargs="?", default=2000)
    parser.add_argument("clients", type=int, nargs="?", default=32)
    options = parser.parse_args(arguments)
    if not 1 <= options.requests <= MAX_REQUESTS or not 1 <= options.clients <= MAX_CLIENTS:
        parser.error(f"at most {MAX_REQUESTS} requests and {MAX_CLIENTS} clients, at least one")
    started = time.monotonic()
    with RunningService.start(options.bundle, ["--port", "0"], environment={}) as service:
        service.wait_ready(START_SECONDS)
        sys.stdout.write(f"ready      after {time.monotonic() - started:.1f} s\n")
        with tempfile.TemporaryDirectory() as name:
            seen = hammer(
                service.port, Path(name), requests=options.requests, clients=options.clients
            )
        code = service.stop()
    sys.stdout.write(f"{seen.report()}\nstopped    with {code}\n")
    return 1 if seen.failures or code else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
