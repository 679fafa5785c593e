"""Many clients at once against one service on this machine, each answer held against the truth.

python -m tests.support.hammer BUNDLE [REQUESTS] [CLIENTS] starts the bundle's service on loopback,
asks it, stops it, and prints failures, latencies and throughput.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bundler.launch import RunningService
from tests.support.clients import Client, worst_cosine
from tests.support.vitals import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_REQUESTS, MAX_CLIENTS = 100_000, 256
MIN_COSINE = 0.99999
TEXTS_PER_REQUEST = (1, 2, 4)
START_SECONDS = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hammered:
    """What happened: failures by what they were, and the seconds of each request that was right."""

    failures: Counter[str]
    latencies_s: tuple[float, ...]
    texts: int
    wall_s: float

    def report(self) -> str:
        """Return the figures as people read them."""
        failed = sum(self.failures.values())
        lines = [f"requests   {failed + len(self.latencies_s)} in {self.wall_s:.1f} s"]
        lines.append(f"failures   {failed}")
        lines += [f"           {count} x {what}" for what, count in self.failures.most_common()]
        for rank in (50, 95):
            lines.append(f"p{rank}        {1000 * percentile(self.latencies_s, rank):.0f} ms")
        rate = len(self.latencies_s) / self.wall_s
        lines.append(f"throughput {rate:.1f} requests/s, {self.texts / self.wall_s:.1f} texts/s")
        return "\n".join(lines)


def hammer(  # noqa: C901 - the client's loop stands inside what it counts
    port: int, texts: Sequence[str], *, requests: int, clients: int
) -> Hammered:
    """Ask for `requests` answers by `clients` at once, each over one connection that it keeps.

    Every answer must have the vectors that the same texts get when they are asked for alone.
    """
    known = np.stack([Client(port=port).embed([text])[0] for text in texts])
    turn = iter(range(requests))
    lock = threading.Lock()
    failures: Counter[str] = Counter()
    latencies: list[float] = []
    served = 0

    def ask(connection: http.client.HTTPConnection, number: int) -> str | None:
        count = TEXTS_PER_REQUEST[number % len(TEXTS_PER_REQUEST)]
        chosen = [(number + step) % len(texts) for step in range(count)]
        body = json.dumps({"texts": [texts[index] for index in chosen]})
        connection.request("POST", "/embed", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != http.HTTPStatus.OK:
            return f"status {answer.status}"
        rows = np.array(json.loads(data)["vectors"], dtype=np.float32)
        is_right = rows.shape == known[chosen].shape and np.isfinite(rows).all()
        if not is_right or worst_cosine(rows, known[chosen]) < MIN_COSINE:
            return "a wrong vector"
        return None

    def work() -> None:
        nonlocal served
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            while True:
                with lock:
                    number = next(turn, None)
                if number is None:
                    return
                started = time.monotonic()
                try:
                    failure = ask(connection, number)
                except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                    failure = type(error).__name__
                    connection.close()
                took = time.monotonic() - started
                with lock:
                    if failure is not None:
                        failures[failure] += 1
                    else:
                        latencies.append(took)
                        served += TEXTS_PER_REQUEST[number % len(TEXTS_PER_REQUEST)]
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Hammered(
        failures=failures,
        latencies_s=tuple(latencies),
        texts=served,
        wall_s=time.monotonic() - started,
    )


def sentences(count: int) -> list[str]:
    """Return `count` different sentences of four to some sixty words."""
    line = "a harbour at dawn has room for boats that bring salt and news from the north"
    words = line.split()
    return [
        f"{number}: " + " ".join(words[(number * 7 + step) % len(words)] for step in range(length))
        for number, length in ((n, 4 + n * 11 % 57) for n in range(count))
    ]


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
        seen = hammer(
            service.port, sentences(24), requests=options.requests, clients=options.clients
        )
        code = service.stop()
    sys.stdout.write(f"{seen.report()}\nstopped    with {code}\n")
    return 1 if seen.failures or code else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
