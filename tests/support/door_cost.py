"""What the door costs one request: the service with it and without it, asked in turns.

python -m tests.support.door_cost [REQUESTS] starts both around a stub engine on loopback and prints
latency and processor time of a single /embed of each, and the difference.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "service"), str(ROOT)]

from bundler.launch import RunningService  # noqa: E402 (the path comes first)
from tests.support import stub_service  # noqa: E402
from tests.support.vitals import cpu_s  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_REQUESTS = 100_000
WARM_UP = 100
START_SECONDS = 120.0
TOKEN = "0123456789abcdef" * 2
BODY = '{"texts": ["a harbour at dawn"]}'


def serve(*, is_bare: bool) -> None:
    """Run the stub service; a bare one has uvicorn's own protocol and no layer of ours."""
    if is_bare:
        stub = stub_service.stub

        def stub_and_bare(*, is_slow: bool) -> None:
            stub(is_slow=is_slow)
            from fastapi import FastAPI  # noqa: PLC0415 (not before the port is taken)
            from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415

            from sidecar.web import app, budget, http_protocol  # noqa: PLC0415

            def without_layers(self: FastAPI) -> ASGIApp:
                inner = FastAPI.build_middleware_stack(self)

                async def outer(scope: Scope, receive: Receive, send: Send) -> None:
                    scope[budget.SHARE] = budget.Share(budget.Budget(1 << 40))
                    await inner(scope, receive, send)

                return outer

            vars(http_protocol)["protocol"] = lambda *_: H11Protocol
            app._App.build_middleware_stack = without_layers  # type: ignore[method-assign]

        stub_service.stub = stub_and_bare
    stub_service.main(["--port", "0", "--log-level", "warning"])


class Asker:
    """One client with one connection, and the seconds of each of its requests."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self.seen: list[float] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self) -> None:
        """Ask for one vector."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        started = time.perf_counter()
        self._connection.request("POST", "/embed", BODY, headers)
        answer = self._connection.getresponse()
        answer.read()
        self.seen.append(time.perf_counter() - started)
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"answered {answer.status}")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def p50_ms(self) -> float:
        """Return the median."""
        return 1000 * statistics.median(self.seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one request, in milliseconds: the median latency, and the mean time of the processor."""

    p50: float
    cpu: float


def measure(requests: int) -> tuple[Cost, Cost]:
    """Return what a single request costs with the door and without it."""
    program = [sys.executable, "-B", str(Path(__file__).resolve()), "--serve"]
    guarded = RunningService.run(program, environment={"SIDECAR_TOKEN": TOKEN})
    bare = RunningService.run([*program, "--bare"], environment={})
    with guarded, bare:
        askers = []
        for service in (guarded, bare):
            service.wait_ready(START_SECONDS)
            askers.append(Asker(service.port))
        for _ in range(WARM_UP):
            for asker in askers:
                asker.ask()
                asker.seen.clear()
        processes = [guarded.process.pid, bare.process.pid]
        before = [cpu_s(process) for process in processes]
        for number in range(requests):
            # In turns, so that a busy moment hits both, and neither always follows the other.
            for asker in askers if number % 2 else reversed(askers):
                asker.ask()
        for asker in askers:
            asker.close()
        used = [cpu_s(process) - had for process, had in zip(processes, before, strict=True)]
        guarded.stop()
        bare.stop()
    made = [
        Cost(p50=asker.p50_ms(), cpu=1000 * seconds / requests)
        for asker, seconds in zip(askers, used, strict=True)
    ]
    return made[0], made[1]


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 0 always, as no figure of a shared machine is a verdict."""
    parser = argparse.ArgumentParser(prog="ci/count access-checks", description="Price the door.")
    parser.add_argument("requests", type=int, nargs="?", default=2000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(is_bare=options.bare)
        return 0
    if not 1 <= options.requests <= MAX_REQUESTS:
        parser.error(f"at least 1 and at most {MAX_REQUESTS} requests")
    guarded, bare = measure(options.requests)
    more = guarded.p50 - bare.p50, guarded.cpu - bare.cpu
    sys.stdout.write(
        f"single /embed around a stub engine, {options.requests} requests each, in turns\n"
        f"with the door  p50 {guarded.p50:.2f} ms  processor {guarded.cpu:.2f} ms\n"
        f"without        p50 {bare.p50:.2f} ms  processor {bare.cpu:.2f} ms\n"
        f"the door      {more[0]:+.2f} ms           {more[1]:+.2f} ms\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
