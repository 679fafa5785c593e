"""Services that are asked to stop with their hands full: how long they take, and how they end.

python -m tests.support.stops BUNDLE [COUNT] [CLIENTS] stops that many, and prints the times; it
fails unless every one ended with 0 within five seconds and left no process behind.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.doorstep import post
from tests.support.running import running
from tests.support.tinypdf import slow
from tests.support.vitals import children, still_there, until_reading

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_STOP_S = 5.0
GIVE_UP_S = 20.0
MAX_COUNT, MAX_CLIENTS = 1_000, 200
# What a client may have sent when it hangs: nothing, half a head, half a body, and a whole request
# after which it reads nothing.
HUNG = (
    b"",
    b"POST /em",
    b"POST /embed HTTP/1.1\r\nHost: localhost\r\n",
    (
        b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"texts": ["a'
    ),
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """How one service ended: its exit code, the seconds, and what was left of its processes."""

    code: int
    seconds: float
    left: tuple[int, ...]

    @property
    def is_good(self) -> bool:
        """Whether it ended as promised."""
        return self.code == 0 and self.seconds <= MAX_STOP_S and not self.left


def stop(
    command: Sequence[str], *, clients: int, document: Path, number: int = signal.SIGTERM
) -> Stopped:
    """Start `command`, keep it busy with everything at once, and send it the signal `number`.

    `command` allows the folder of `document`, which it is reading when the signal comes.
    """
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(running([*command, "--port", "0"]))
        port, process = service.wait_ready(), service.process
        for turn in range(clients):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(HUNG[turn % len(HUNG)])
        for path, body in (
            ("/embed-file", {"path": str(document)}),
            ("/embed", {"texts": ["one of many words " * 200] * 3_000}),
        ):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(post(body, path=path))
        until_reading(process.pid)
        workers = children(process.pid)
        process.send_signal(number)
        began = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GIVE_UP_S)
        seconds = time.monotonic() - began
        code = process.poll()
        # A process that was sent its signal may take a moment to be gone.
        left = still_there(workers, within_s=1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return Stopped(code=-1 if code is None else code, seconds=seconds, left=tuple(left))


def main(arguments: Sequence[str]) -> int:
    """Stop, count, report; 0 if every service ended as promised."""
    parser = argparse.ArgumentParser(prog="ci/count stops", description="Count graceful stops.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=50)
    parser.add_argument("clients", type=int, nargs="?", default=50)
    options = parser.parse_args(arguments)
    if not 1 <= options.count <= MAX_COUNT or not 0 <= options.clients <= MAX_CLIENTS:
        parser.error(f"1 to {MAX_COUNT} services with up to {MAX_CLIENTS} clients each")
    from bundler.launch import command  # noqa: PLC0415 (the tests need no builder)

    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "slow.pdf"
        document.write_bytes(slow())
        words = command(options.bundle, ["--allow-dir", folder])
        seen = [
            stop(words, clients=options.clients, document=document) for _ in range(options.count)
        ]
    times = sorted(one.seconds for one in seen)
    good = sum(one.is_good for one in seen)
    codes = sorted({one.code for one in seen})
    sys.stdout.write(f"exit codes {', '.join(map(str, codes))}\n")
    sys.stdout.write(f"seconds    median {times[len(times) // 2]:.2f}, worst {times[-1]:.2f}\n")
    sys.stdout.write(f"left       {sum(len(one.left) for one in seen)} processes\n")
    sys.stdout.write(f"{good} of {len(seen)} ended with 0 within {MAX_STOP_S:g} s, none left\n")
    return 0 if good == len(seen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
