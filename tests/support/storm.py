"""A thousand requests at once against one service on this machine, and /health asked all along.

python -m tests.support.storm BUNDLE [REQUESTS] starts the bundle's service on loopback, asks it,
stops it, and prints what was answered, how soon, and how /health fared meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.launch import RunningService, command
from sidecar.process.listener import raise_limit
from tests.support.doorstep import post
from tests.support.vitals import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_REQUESTS = 5_000
START_SECONDS = 180.0
PATIENCE_S = 1200.0  # all that may wait, on a slow machine with other work
POLLS_PER_S = 20
SERVED, BUSY = 200, 429
RETRY = b"retry-after:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What came back for each request and each poll of /health, and how soon; and the seconds."""

    requests: list[tuple[str, float]]
    polls: list[tuple[str, float]]
    wall_s: float

    @property
    def outcomes(self) -> Counter[str]:
        """How often each status, or what went wrong."""
        return Counter(what for what, _ in self.requests)

    @property
    def unanswered(self) -> int:
        """How many requests, polls of /health included, got no answer or a wrong one."""
        lost = [what for what, _ in self.requests if what not in (str(SERVED), str(BUSY))]
        return len(lost + [what for what, _ in self.polls if what != str(SERVED)])

    def figures(self) -> dict[str, Any]:
        """Return the figures, as JSON takes them; times in milliseconds."""
        took: dict[str, list[float]] = {}
        for what, seconds in [*self.requests, *((f"/health {w}", s) for w, s in self.polls)]:
            took.setdefault(what, []).append(seconds)
        return {
            "count": {what: len(found) for what, found in took.items()},
            "unanswered": self.unanswered,
            "wall_s": self.wall_s,
            "latency_ms": {
                what: {f"p{rank}": 1000 * percentile(found, rank) for rank in (50, 99, 100)}
                for what, found in took.items()
            },
        }


async def _ask(port: int, request: bytes) -> tuple[str, float]:
    """Return the status, or what went wrong, and the seconds it took."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                answer = await reader.read()
            finally:
                writer.close()
    except OSError as error:  # TimeoutError is one, too
        return type(error).__name__, time.monotonic() - started
    head, end, _ = answer.partition(b"\r\n\r\n")
    if not end:
        return "no answer", time.monotonic() - started
    status = head.split(b" ", 2)[1].decode()
    if status == str(BUSY) and RETRY not in head.lower():
        status = "429 without Retry-After"
    return status, time.monotonic() - started


async def _poll(port: int) -> list[tuple[str, float, float]]:
    """Ask /health at a fixed rate, whether or not the last answer has come, until stdin ends.

    Returns what _ask does, and when it was asked.
    """
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    asked: list[tuple[float, asyncio.Task[tuple[str, float]]]] = []
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    sys.stdout.write("polling\n")
    sys.stdout.flush()
    while not ended.done():
        asked.append((time.time(), asyncio.create_task(_ask(port, request))))
        await asyncio.sleep(1 / POLLS_PER_S)
    return [(*await task, began) for began, task in asked]


def storm(port: int, requests: Sequence[bytes]) -> Storm:
    """Send all `requests` at once, each on a connection of its own.

    /health is asked by a process of its own, so that its latency is not that of this one.
    """

    async def burst() -> list[tuple[str, float]]:
        return await asyncio.gather(*(_ask(port, request) for request in requests))

    raise_limit()
    command = [sys.executable, "-m", "tests.support.storm", "--poll", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as poller:
        assert poller.stdout is not None
        poller.stdout.readline()  # it polls
        began = time.time()
        seen = asyncio.run(burst())
        ended = time.time()
        polled, _ = poller.communicate()
    # Those of the storm alone: the calm before it would flatter the median.
    polls = [(what, took) for what, took, at in json.loads(polled) if began <= at <= ended]
    return Storm(requests=seen, polls=polls, wall_s=ended - began)


def mixture(count: int) -> list[bytes]:
    """Return `count` requests of one to eight sentences, every tenth of 160.

    Those of a thousand are more than the service lets wait.
    """
    line = "a harbour at dawn has room for boats that bring salt and news from the north"
    made = []
    for number in range(count):
        texts = 160 if number % 10 == 0 else 1 + number % 8
        made.append(post({"texts": [f"{number} {n}: {line}" for n in range(texts)]}))
    return made


def main(arguments: Sequence[str]) -> int:
    """Start, storm, stop, report; 0 if every request and every poll was answered."""
    parser = argparse.ArgumentParser(
        prog="ci/count burst", description="Ask a thousand times at once."
    )
    parser.add_argument("--poll", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("requests", type=int, nargs="?", default=1000)
    options = parser.parse_args(arguments)
    if options.poll is not None:
        sys.stdout.write(json.dumps(asyncio.run(_poll(options.poll))))
        return 0
    if options.bundle is None or not 1 <= options.requests <= MAX_REQUESTS:
        parser.error(f"needs a bundle, and at most {MAX_REQUESTS} requests")
    with RunningService.start(command(options.bundle, ["--port", "0"]), environment={}) as service:
        service.wait_ready(START_SECONDS)
        seen = storm(service.port, mixture(options.requests))
        code = service.stop()
    sys.stdout.write(f"{json.dumps({**seen.figures(), 'exit_code': code}, indent=1)}\n")
    return 1 if seen.unanswered or code else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
