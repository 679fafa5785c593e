"""A service under a steady load for minutes, and whether it grows, slows down or fails.

python -m tests.support.soak BUNDLE [MINUTES] [--json FILE] starts the bundle's service on loopback,
finds out how many requests it can answer, holds 30 % of that, and prints what became of its memory,
its handles and its latencies.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.clients import Client
from tests.support.mixture import Answered, Mixture, load
from tests.support.running import program, running
from tests.support.vitals import Vitals, look, percentile, slope_per_min

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_MINUTES = 180
SHARE = 0.3
HEALTH_EVERY_S = 0.5
MAX_RSS_MB_PER_MIN = 1.0
MAX_HANDLES_PER_MIN = 0.5
# Of the run, while pools fill and the allocator finds its size.
WARM_UP = 0.2


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
        """Return what grows, in a minute, once it is warm."""
        if not self.vitals:
            return {}
        start = self.vitals[0].at_s + WARM_UP * self.seconds
        warm = [seen for seen in self.vitals if seen.at_s >= start]
        at_s = [seen.at_s for seen in warm]
        return {
            "rss_mb": slope_per_min(at_s, [seen.rss_mb for seen in warm]),
            "anon_mb": slope_per_min(at_s, [seen.anon_mb for seen in warm]),
            "family_mb": slope_per_min(at_s, [seen.family_mb for seen in warm]),
            "handles": slope_per_min(at_s, [float(seen.handles) for seen in warm]),
            "threads": slope_per_min(at_s, [float(seen.threads) for seen in warm]),
            "p50_ms": slope_per_min(*self._medians_ms(at_s)),
        }

    def _medians_ms(self, at_s: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return the median latency of single texts between one look and the next."""
        places, medians = [], []
        for start, end in itertools.pairwise(at_s):
            took = [
                answer.took_s
                for answer in self.answered
                if answer.kind.startswith("single") and start <= answer.at_s < end
            ]
            if took:
                places.append((start + end) / 2)
                medians.append(1000 * percentile(took, 50))
        return places, medians

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
        kinds = {}
        for kind in sorted({answer.kind for answer in self.answered}):
            took = [1000 * answer.took_s for answer in self.answered if answer.kind == kind]
            ranks = {f"p{rank}_ms": percentile(took, rank) for rank in (50, 95, 99, 100)}
            kinds[kind] = {"count": len(took), **ranks}
        health = [1000 * took for took in self.health_s]
        return {
            "engine": self.engine,
            "seconds": self.seconds,
            "capacity_per_s": self.capacity,
            "rate_per_s": self.rate,
            "requests": kinds,
            "failures": dict(self.failures),
            "health": {
                "polls": len(health),
                "p50_ms": percentile(health, 50),
                "worst_ms": percentile(health, 100),
            },
            "slopes_per_min": self.slopes(),
            "log_lines": self.log.count("\n"),
            "exit_code": self.code,
            "complaints": self.complaints(),
            "samples": [asdict(seen) for seen in self.vitals],
        }

    def report(self) -> str:
        """Return the figures as people read them."""
        figures = self.figures()
        load = f"{self.rate:.1f} requests/s of {self.capacity:.1f} that it can answer"
        lines = [
            f"engine     {self.engine}",
            f"load       {self.seconds:.0f} s at {load}",
            f"{'request':14}{'count':>8}{'p50 ms':>9}{'p95':>9}{'p99':>9}{'worst':>9}",
        ]
        for kind, row in figures["requests"].items():
            ranks = "".join(f"{row[f'p{rank}_ms']:9.1f}" for rank in (50, 95, 99, 100))
            lines.append(f"{kind:14}{row['count']:8}{ranks}")
        health = figures["health"]
        lines.append(
            f"health     {health['polls']} polls, p50 {health['p50_ms']:.1f} ms,"
            f" worst {health['worst_ms']:.1f} ms"
        )
        steps = self.vitals[:: max(1, len(self.vitals) // 10)]
        head = ("at s", "RSS MB", "anon MB", "family MB", "handles", "threads", "children")
        lines.append("".join(f"{name:>10}" for name in head))
        for seen in steps:
            sizes = (seen.at_s - self.vitals[0].at_s, seen.rss_mb, seen.anon_mb, seen.family_mb)
            counts = (seen.handles, seen.threads, seen.children)
            lines.append("".join(f"{x:10.1f}" for x in sizes) + "".join(f"{x:10}" for x in counts))
        if self.vitals:
            computed = self.vitals[-1].cpu_s - self.vitals[0].cpu_s
            busy = statistics.median(seen.load for seen in self.vitals)
            lines.append(f"machine    load {busy:.1f}, the service computed {computed:.0f} s")
        grows = ", ".join(f"{name} {value:+.3f}" for name, value in self.slopes().items())
        lines.append(f"a minute   {grows}")
        lines.append(f"log        {figures['log_lines']} lines")
        complaints = self.complaints()
        lines.append(f"failures   {self.failures.total()}")
        return "\n".join(lines + [f"WRONG      {what}" for what in complaints])


def soak(pid: int, port: int, folder: Path, *, seconds: float, seed: int = 1) -> Soaked:
    """Return how the service `pid`, on `port`, bore the load; it may read `folder`."""
    mixture = Mixture(port, folder)
    info = Client(port=port).ask("/info").json()
    seen = Soaked(seconds=seconds, engine=info["engine"], degraded=info.get("degraded_because"))
    probe = min(20.0, seconds / 5)
    first = Soaked(seconds=probe)
    load(mixture, _at_once(mixture, probe, random.Random(seed)), first.answered, first.failures)
    seen.failures += first.failures
    seen.capacity = len(first.answered) / probe
    seen.rate = SHARE * seen.capacity
    ended = threading.Event()
    watchers = [
        threading.Thread(target=_watch, args=(pid, seen, ended)),
        threading.Thread(target=_poll, args=(port, seen, ended)),
    ]
    for thread in watchers:
        thread.start()
    try:
        plan = _at_rate(mixture, seconds, random.Random(seed + 1), rate=max(seen.rate, 0.5))
        load(mixture, plan, seen.answered, seen.failures)
    finally:
        ended.set()
        for thread in watchers:
            thread.join()
    return seen


def _at_once(mixture: Mixture, seconds: float, lots: random.Random) -> Iterator[tuple[float, str]]:
    """Yield requests that are due at once, as long as there is time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield 0.0, mixture.draw(lots)


def _at_rate(
    mixture: Mixture, seconds: float, lots: random.Random, *, rate: float
) -> Iterator[tuple[float, str]]:
    """Yield requests and when each is due: as many clients send them who know nothing of others."""
    due = time.monotonic()
    end = due + seconds
    while (due := due + lots.expovariate(rate)) < end:
        yield due, mixture.draw(lots)


def _watch(pid: int, seen: Soaked, ended: threading.Event) -> None:
    every_s = min(5.0, seen.seconds / 40)
    while not ended.wait(every_s):
        try:
            seen.vitals.append(look(pid))
        except OSError:
            seen.failures["the service is gone"] += 1
            return


def _poll(port: int, seen: Soaked, ended: threading.Event) -> None:
    client = Client(port=port, timeout_s=10)
    while not ended.wait(HEALTH_EVERY_S):
        started = time.monotonic()
        try:
            status = client.ask("/health").status
        except OSError as error:
            seen.failures[f"health: {type(error).__name__}"] += 1
            continue
        seen.health_s.append(time.monotonic() - started)
        if status != 200:
            seen.failures[f"health: status {status}"] += 1


def soaked(command: Sequence[str], *, seconds: float, seed: int = 1) -> Soaked:
    """Start a service by `command`, which ends where options may follow; load it, and stop it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        words = [*command, "--port", "0", "--allow-dir", str(folder)]
        # Beside the load: the start, the measure of its capacity, and the stop.
        with running(words, max_seconds=seconds * 1.5 + 300) as service:
            port = service.wait_ready()
            seen = soak(service.process.pid, port, folder, seconds=seconds, seed=seed)
            seen.code, seen.log = service.stop(), service.log
    return seen


def main(arguments: Sequence[str]) -> int:
    """Start, load, stop, report; 0 if nothing failed and nothing grew."""
    parser = argparse.ArgumentParser(prog="ci/count soak", description="Hold a load for minutes.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= MAX_MINUTES:
        parser.error(f"at most {MAX_MINUTES} minutes, more than none")
    seen = soaked(program(options.bundle), seconds=60 * options.minutes, seed=options.seed)
    if options.json is not None:
        options.json.write_text(json.dumps(seen.figures(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{seen.report()}\n")
    return 1 if seen.complaints() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
