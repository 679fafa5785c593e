"""Sends every hostile PDF to a service of its own: seconds, status, and what memory is left.

`python -m tests.support.bombed BUNDLE` starts the bundle's service on loopback and prints a table.
Fails if an answer is not the expected one or took too much computing, a process is left, or memory
does not come back.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bundler.launch import RunningService
from tests.support.clients import Client
from tests.support.tinypdf import bombs, pdf
from tests.support.vitals import MIB, children, cpu_s, memory

UPLOAD, PDF = "/embed-file/upload", {"content-type": "application/pdf"}
START_SECONDS = 180.0
# Of all the processes that read one: its limit, and their starts.
MOST_CPU_S = 14.0
# What the service may have more after a bomb than before all of them: its own caches, no document.
MOST_GROWTH_MB = 8.0
SETTLE_S = 1.0


def main(bundle: Path) -> int:
    """Print the table; return the number of faults."""
    faults = 0
    with RunningService.start(bundle, ["--port", "0"], environment={}) as service:
        service.wait_ready(START_SECONDS)
        pid, client = service.process.pid, Client(port=service.port)
        client.ask(UPLOAD, pdf(["warm"]), headers=PDF)
        client.embed(["warm"])
        time.sleep(SETTLE_S)
        base = memory(pid) / MIB
        say(f"service at rest {base:.0f} MB, the spare process {spare(pid)}")
        say("| file | bytes | s | CPU s | answer | MB before | MB after | next request |")
        say("|---|---:|---:|---:|---|---:|---:|---|")
        for name, (data, kind) in bombs().items():
            before, began, spent = memory(pid) / MIB, time.monotonic(), cpu_s(pid, of_ended=True)
            answer = client.ask(UPLOAD, data, headers=PDF)
            took = time.monotonic() - began
            told = str(answer.json().get("type", "")).rpartition(":")[2]
            following = client.ask(UPLOAD, pdf(["next"]), headers=PDF).json()
            is_next_read = following.get("chunks") == ["next"]
            is_served = is_next_read and len(client.embed(["next"])) == 1
            time.sleep(SETTLE_S)
            after = memory(pid) / MIB
            is_full = (kind, told) == ("document-too-complex", "document-crash")
            is_right = (told == kind or is_full) and (answer.status == 422 or not kind)
            spent = cpu_s(pid, of_ended=True) - spent
            is_back = after - base <= MOST_GROWTH_MB and len(children(pid)) <= 1
            faults += not (is_right and spent <= MOST_CPU_S and is_served and is_back)
            say(
                f"| {name} | {len(data)} | {took:.2f} | {spent:.2f} | {answer.status} {told} |"
                f" {before:.0f} | {after:.0f} | {'served' if is_served else 'FAILED'} |"
            )
        say(f"faults {faults}, exit code {service.stop()}")
    return faults


def say(line: str) -> None:
    """Write a line at once: a bomb takes ten seconds."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def spare(pid: int) -> str:
    """Return the memory of the processes that `pid` has started."""
    return " + ".join(f"{memory(child) / MIB:.0f} MB" for child in children(pid)) or "none"


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]))))
