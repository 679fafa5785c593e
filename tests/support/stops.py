"""Services that are asked to stop with their hands full: how long they take, and how they end.

python -m tests.support.stops BUNDLE [COUNT] [CLIENTS] stops that many, and prints the times; it
fails unless every one ended with 0 within five seconds and left no process behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_STOP_S = 5.0
GIVE_UP_S = 20.0
WAIT_S = 60.0
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


def slow_pdf(path: Path, *, pages: int = 40, lines: int = 40_000) -> None:
    """Write a PDF of some kilobytes whose text takes far longer to extract than a stop may take.

    Its pages share one stream, which is parsed for every page again.
    """
    text = b"BT /F1 9 Tf 12 TL 10 190 Td\n" + b"(words on a line) Tj T*\n" * lines + b"ET"
    stream = zlib.compress(text, 9)
    kids = b" ".join(b"%d 0 R" % (number + 5) for number in range(pages))
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R"
        b" /Resources << /Font << /F1 3 0 R >> >> >>"
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>" % (pages, kids),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
        *[page] * pages,
    ]
    out = b"%PDF-1.4\n"
    table = b"0000000000 65535 f \n"
    for number, body in enumerate(objects, start=1):
        table += b"%010d 00000 n \n" % len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    count = len(objects) + 1
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, len(out))
    path.write_bytes(out + b"xref\n0 %d\n%s" % (count, table) + end)


def stop(
    command: Sequence[str], *, clients: int, document: Path, number: int = signal.SIGTERM
) -> Stopped:
    """Start `command`, keep it busy with everything at once, and send it the signal `number`.

    `command` allows the folder of `document`, which it is reading when the signal comes.
    """
    process = subprocess.Popen(
        [*command, "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        text=True,
    )
    assert process.stdout is not None
    with contextlib.ExitStack() as stack:
        stack.callback(process.wait)
        stack.callback(process.kill)
        stack.enter_context(process.stdout)
        port = _ready_port(process)
        for turn in range(clients):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(HUNG[turn % len(HUNG)])
        for path, body in (
            ("/embed-file", {"path": str(document)}),
            ("/embed", {"texts": ["one of many words " * 200] * 3_000}),
        ):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(_request(path, body))
        workers = _until_reading(process.pid)
        process.send_signal(number)
        began = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GIVE_UP_S)
        seconds = time.monotonic() - began
        code = process.poll()
        # A process that was sent its signal may take a moment to be gone.
        deadline = time.monotonic() + 1
        while (left := [w for w in workers if _is_alive(w)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return Stopped(code=-1 if code is None else code, seconds=seconds, left=tuple(left))


def _ready_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line.removeprefix("PROGRESS:"))
        if event["type"] == "ready":
            return int(event["data"]["port"])
    raise AssertionError(f"it ended with {process.wait()} before it was ready")


def _request(path: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def _until_reading(pid: int) -> list[int]:
    """Return the processes below `pid` once one of them has computed for a moment."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = _below(pid)
        if any(_cpu_ticks(child) >= 30 for child in found):
            return found
        time.sleep(0.02)
    raise AssertionError("the document was never begun")


def _below(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = (task / "children").read_text(encoding="ascii").split()
            for child in map(int, children):
                found += [child, *_below(child)]
    return found


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


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
        slow_pdf(document)
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
