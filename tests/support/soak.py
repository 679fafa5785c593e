"""A service under a steady load for minutes, and whether it grows, slows down or fails.

python -m tests.support.soak BUNDLE [MINUTES] starts the bundle's service on loopback, finds out how
many requests it can answer, holds 30 % of that, and prints what became of its memory, its handles
and its latencies as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.support.clients import Client
from tests.support.mixture import Answered, Mixture, load, plan_of
from tests.support.running import program, running
from tests.support.vitals import Vitals, look, percentile, slope_per_min

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_MINUTES = 180
SHARE = 0.3
LOOK_EVERY_S = 0.5
MAX_RSS_MB_PER_MIN = 1.0
MAX_HANDLES_PER_MIN = 0.5
# Of the run, while pools fill and the allocator finds its size.
WARM_UP = 0.2
GROWING = ("rss_mb", "anon_mb", "family_mb", "handles", "threads")


@dataclass(slots=True, kw_only=True)
class Soaked:
    """What happened during a run of `seconds` at `rate` of the `capacity`, in requests per second.

    `engine` is what computes, `degraded` why that is another than was meant. `health_s` are the
    times that /health took. `code` is what the service ended with, `log` what it had written.
    """

    seconds: float
    capacity: float = 0.0
    rate: float = 0.0
    answered: list[Answered] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    vitals: list[Vitals] = field(default_factory=list)
    health_s: list[float] = field(default_factory=list)
    engine: str = ""
    degraded: str | None = None
    code: int | None = None
    log: str = ""

    def slopes(self) -> dict[str, float]:
        """Return what grows, in a minute, once it is warm; `single_ms` is the latency of a text."""
        if not self.vitals:
            return {}
        start = self.vitals[0].at_s + WARM_UP * self.seconds
        warm = [seen for seen in self.vitals if seen.at_s >= start]
        at_s = [seen.at_s for seen in warm]
        grown = {
            name: slope_per_min(at_s, [float(getattr(seen, name)) for seen in warm])
            for name in GROWING
        }
        singles = [
            (answer.at_s, 1000 * answer.took_s)
            for answer in self.answered
            if answer.kind.startswith("single") and answer.at_s >= start
        ]
        latency = slope_per_min([at for at, _ in singles], [took for _, took in singles])
        return {**grown, "single_ms": latency}

    def complaints(self) -> list[str]:
        """Return what is not as it should be."""
        slopes = self.slopes()
        found = [f"{count} x {what}" for what, count in self.failures.most_common()]
        if slopes.get("rss_mb", 0) >= MAX_RSS_MB_PER_MIN:
            found.append(f"resident memory grows by {slopes['rss_mb']:.2f} MB/min")
        if slopes.get("handles", 0) >= MAX_HANDLES_PER_MIN:
            found.append(f"open handles grow by {slopes['handles']:.2f}/min")
        if self.degraded:
            found.append(f"another engine than was meant: {self.degraded}")
        if not self.vitals or not self.health_s:
            found.append("nothing was seen of the service")
        if self.code:
            found.append(f"the service ended with {self.code}")
        if traces := self.log.count("Traceback"):
            found.append(f"{traces} tracebacks in the log")
        return found

    def figures(self) -> dict[str, Any]:
        """Return all figures, as JSON takes them."""
        took_s: dict[str, list[float]] = {"health": self.health_s}
        for answer in self.answered:
            took_s.setdefault(answer.kind, []).append(answer.took_s)
        return {
            "engine": self.engine,
            "seconds": self.seconds,
            "capacity_per_s": self.capacity,
            "rate_per_s": self.rate,
            "count": {kind: len(took) for kind, took in took_s.items()},
            "latency_ms": {
                kind: {f"p{rank}": 1000 * percentile(took, rank) for rank in (50, 95, 99, 100)}
                for kind, took in took_s.items()
            },
            "slopes_per_min": self.slopes(),
            "vitals": [asdict(seen) for seen in (*self.vitals[:1], *self.vitals[-1:])],
            "log_lines": self.log.count("\n"),
            "exit_code": self.code,
            "complaints": self.complaints(),
        }


def soaked(command: Sequence[str], *, seconds: float, seed: int = 1) -> Soaked:
    """Start a service by `command`, which ends where options may follow; load it, and stop it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        words = [*command, "--port", "0", "--allow-dir", str(folder)]
        # Beside the load: the start, the measure of its capacity, and the stop.
        with running(words, max_seconds=seconds * 1.5 + 300) as service:
            port = service.wait_ready()
            mixture = Mixture(port, folder)
            info = Client(port=port).ask("/info").json()
            seen = Soaked(
                seconds=seconds, engine=info["engine"], degraded=info.get("degraded_because")
            )
            probe = min(20.0, seconds / 5)
            first: list[Answered] = []
            load(mixture, plan_of(probe, random.Random(seed)), first, seen.failures)
            seen.capacity = len(first) / probe
            seen.rate = SHARE * seen.capacity
            ended = threading.Event()
            watcher = threading.Thread(target=_watch, args=(service.process.pid, port, seen, ended))
            watcher.start()
            try:
                plan = plan_of(seconds, random.Random(seed + 1), rate=max(seen.rate, 0.5))
                load(mixture, plan, seen.answered, seen.failures)
            finally:
                ended.set()
                watcher.join()
            seen.code, seen.log = service.stop(), service.log
    return seen


def _watch(pid: int, port: int, seen: Soaked, ended: threading.Event) -> None:
    """Look at the process, and ask /health, again and again."""
    client = Client(port=port, timeout_s=10)
    while not ended.wait(min(LOOK_EVERY_S, seen.seconds / 40)):
        started = time.monotonic()
        try:
            seen.vitals.append(look(pid))
            started = time.monotonic()
            status = client.ask("/health").status
        except (OSError, psutil.Error) as error:
            seen.failures[f"health: {type(error).__name__}"] += 1
            continue
        seen.health_s.append(time.monotonic() - started)
        if status != 200:
            seen.failures[f"health: status {status}"] += 1


def main(arguments: Sequence[str]) -> int:
    """Start, load, stop, report; 0 if nothing failed and nothing grew."""
    parser = argparse.ArgumentParser(prog="ci/count soak", description="Hold a load for minutes.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= MAX_MINUTES:
        parser.error(f"at most {MAX_MINUTES} minutes, more than none")
    seen = soaked(program(options.bundle), seconds=60 * options.minutes)
    sys.stdout.write(f"{json.dumps(seen.figures(), indent=1)}\n")
    return 1 if seen.complaints() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
