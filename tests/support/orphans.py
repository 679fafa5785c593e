"""Parents that start a service, and are killed: how long the service outlives them.

python -m tests.support.orphans BUNDLE [COUNT] [--real COUNT] kills that many, and prints the
times; it fails unless every service was gone within a second.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.support.doorstep import post
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Moment = Literal["starting", "ready", "busy"]

MAX_GONE_S = 1.0
GIVE_UP_S = 10.0
MAX_COUNT = 10_000
# Starts what its arguments say with a pipe on stdin, and never ends by itself. With HOLDER in its
# environment another child has the pipe's other end too, and lives on.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env={})
print("pid", child.pid, flush=True)
if "HOLDER" in os.environ:
    code = "import time; time.sleep(600)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=[child.stdin.fileno()], stdout=subprocess.DEVNULL
    )
    print("holder", holder.pid, flush=True)
time.sleep(600)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """One service whose parent was killed: when, and how long it was still there."""

    moment: str
    is_held: bool
    seconds: float


def orphan(
    command: Sequence[str], moment: Moment, *, is_held: bool = False, wait_s: float = 0.0
) -> Orphan:
    """Start a parent that starts `command`, kill it at `moment` and see when the service is gone.

    `wait_s` is how long after its start, or after it was ready, that is. With `is_held` another
    process keeps the other end of the service's stdin open.
    """
    numbers: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        words = [sys.executable, "-c", PARENT, *command]
        environment = {"HOLDER": "1"} if is_held else {}
        parent = stack.enter_context(running(words, environment=environment))
        stdout = parent.process.stdout
        assert stdout is not None
        for _ in range(2 if is_held else 1):
            name, number = stdout.readline().split()
            numbers[name] = int(number)
        if is_held:
            stack.callback(os.kill, numbers["holder"], signal.SIGKILL)
        service = os.pidfd_open(numbers["pid"])  # type: ignore[attr-defined,unused-ignore]
        stack.callback(os.close, service)
        if moment != "starting":
            port = parent.wait_ready()
            if moment == "busy":
                stack.enter_context(_asking(port))
        time.sleep(wait_s)
        parent.process.kill()
        began = time.monotonic()
        is_gone = bool(select.select([service], [], [], GIVE_UP_S)[0])
        seconds = time.monotonic() - began if is_gone else math.inf
        if not is_gone:
            os.kill(numbers["pid"], signal.SIGKILL)
        return Orphan(moment=moment, is_held=is_held, seconds=seconds)


@contextlib.contextmanager
def _asking(port: int) -> Iterator[None]:
    """Send a request that takes a while, and read no answer."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(post({"texts": ["one of many words " * 200] * 2_000}))
        yield


def main(arguments: Sequence[str]) -> int:
    """Kill, count, report; 0 if every service was gone in time."""
    parser = argparse.ArgumentParser(prog="ci/count orphans", description="Count orphans.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=100)
    parser.add_argument("--real", type=int, default=10, help="so many of them load the model (10)")
    options = parser.parse_args(arguments)
    if not 1 <= options.count <= MAX_COUNT or not 0 <= options.real <= options.count:
        parser.error(f"1 to {MAX_COUNT} parents, and no more real ones than that")
    from bundler.launch import command  # noqa: PLC0415 (the tests need no builder)

    lots = random.Random(1)
    seen: list[Orphan] = []
    moments: tuple[Moment, ...] = ("ready", "starting", "busy", "ready")
    for number in range(options.count):
        is_real = number < options.real
        words = ["--port", "0", "--parent-watch", *([] if is_real else ["--engine", "hash"])]
        moment = moments[number % len(moments)]
        seen.append(
            orphan(
                command(options.bundle, words),
                moment,
                # Before it looked for its parent only the pipe's end tells it.
                is_held=moment != "starting" and number % 3 == 0,
                wait_s=lots.uniform(0, 3.0 if is_real else 0.8),
            )
        )
    times = sorted(one.seconds for one in seen)
    in_time = sum(seconds <= MAX_GONE_S for seconds in times)
    for moment in dict.fromkeys(moments):
        worst = max((one.seconds for one in seen if one.moment == moment), default=math.nan)
        sys.stdout.write(f"{moment:10} worst {worst:.3f} s\n")
    held = [one.seconds for one in seen if one.is_held]
    sys.stdout.write(f"pipe held  worst {max(held, default=math.nan):.3f} s of {len(held)}\n")
    sys.stdout.write(f"all        median {times[len(times) // 2]:.3f} s, worst {times[-1]:.3f} s\n")
    sys.stdout.write(f"{in_time} of {len(times)} gone within {MAX_GONE_S:g} s\n")
    return 0 if in_time == len(times) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
