"""What a dialect adds to one text: `ci/count dialects BUNDLE [ROUNDS]`.

Starts the bundle's service on loopback with the engine that hashes words, so that little else takes
time, sends a text by each route in turn on a connection of its own, and prints medians. It fails
where a dialect takes more than MOST_MS longer than /embed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.launch import RunningService, command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_MS = 0.3
START_SECONDS = 180.0
WARM = 50
TEXT = "a harbour at dawn has room for boats that bring salt and news from the north"
OURS = "/embed"
ASKED: dict[str, tuple[str, dict[str, object]]] = {
    OURS: (OURS, {"texts": [TEXT]}),
    "/v1/embeddings": ("/v1/embeddings", {"input": [TEXT]}),
    "/v1/embeddings, base64": ("/v1/embeddings", {"input": [TEXT], "encoding_format": "base64"}),
    "/api/embed": ("/api/embed", {"input": [TEXT]}),
    "/api/embeddings": ("/api/embeddings", {"prompt": TEXT}),
    "/embed, inputs": (OURS, {"inputs": [TEXT]}),
    "/similarity": (
        "/similarity",
        {"inputs": {"source_sentence": TEXT, "sentences": [TEXT]}},
    ),
}


def measure(port: int, rounds: int) -> dict[str, list[float]]:
    """Return how many milliseconds each request took, by its name; in every round each is sent."""
    took: dict[str, list[float]] = {name: [] for name in ASKED}
    clients = {name: http.client.HTTPConnection("127.0.0.1", port) for name in ASKED}
    bodies = {name: json.dumps(body).encode() for name, (_, body) in ASKED.items()}
    names = list(ASKED)
    for number in range(WARM + rounds):
        # Whoever comes first may find the service colder.
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            _send(clients[name], ASKED[name][0], bodies[name])
            if number >= WARM:
                took[name].append(1000 * (time.perf_counter() - began))
    for client in clients.values():
        client.close()
    return took


def _send(client: http.client.HTTPConnection, path: str, body: bytes) -> None:
    client.request("POST", path, body, {"Content-Type": "application/json"})
    answer = client.getresponse()
    answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise AssertionError(path, answer.status)


def table(took: Mapping[str, Sequence[float]]) -> tuple[list[str], float]:
    """Return a line for each name, and the most that a dialect adds to the median of ours."""
    medians = {name: statistics.median(times) for name, times in took.items()}
    lines = [f"{'route':<24} {'p50, ms':>8} {'more':>7}"]
    added = {name: median - medians[OURS] for name, median in medians.items()}
    lines += [f"{name:<24} {medians[name]:8.3f} {added[name]:+7.3f}" for name in medians]
    return lines, max(added.values())


def main(arguments: Sequence[str]) -> int:
    """Start, measure, stop, print; 0 if no dialect takes too long."""
    parser = argparse.ArgumentParser(prog="ci/count dialects", description="Time each dialect.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("rounds", type=int, nargs="?", default=2000)
    options = parser.parse_args(arguments)
    asked = command(options.bundle, ["--port", "0", "--engine", "hash"])
    with RunningService.start(asked, environment={}) as service:
        service.wait_ready(START_SECONDS)
        lines, most = table(measure(service.port, options.rounds))
        service.stop()
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if most <= MOST_MS else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
