"""Sends every hostile PDF to a service of its own: seconds, status, and what memory is left.

`python -m tests.support.bombed BUNDLE` starts the bundle's service on loopback and prints a table.
Fails if an answer is not the expected one or took too much computing, a process is left, or memory
does not come back.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from pathlib import Path

from bundler.launch import RunningService
from tests.support.clients import Client
from tests.support.descendants import children, rss_mb
from tests.support.tinypdf import bombs, pdf

START_SECONDS = 180.0
# Of all the processes that read one: its limit, and their starts.
MOST_CPU_S = 14.0
# What the service may have more after a bomb than before all of them: its own caches, no document.
MOST_GROWTH_MB = 8.0
SETTLE_S = 1.0


def send(port: int, data: bytes) -> tuple[int, dict[str, object]]:
    """Return the status and the body of the answer to an upload."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        headers = {"Content-Type": "application/pdf"}
        connection.request("POST", "/embed-file/upload", data, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def main(bundle: Path) -> int:
    """Print the table; return the number of faults."""
    faults = 0
    with RunningService.start(bundle, ["--port", "0"], environment={}) as service:
        service.wait_ready(START_SECONDS)
        pid, client = service.process.pid, Client(port=service.port)
        send(service.port, pdf(["warm"]))
        client.embed(["warm"])
        time.sleep(SETTLE_S)
        base = rss_mb(pid)
        say(f"service at rest {base:.0f} MB, the spare process {spare(pid)}")
        say("| file | bytes | s | CPU s | answer | MB before | MB after | next request |")
        say("|---|---:|---:|---:|---|---:|---:|---|")
        for name, (data, kind) in bombs().items():
            before, began, spent = rss_mb(pid), time.monotonic(), ended_cpu_s(pid)
            status, body = send(service.port, data)
            took = time.monotonic() - began
            told = str(body.get("type", "")).rpartition(":")[2]
            is_next_read = send(service.port, pdf(["next"]))[1].get("chunks") == ["next"]
            is_served = is_next_read and len(client.embed(["next"])) == 1
            time.sleep(SETTLE_S)
            after = rss_mb(pid)
            is_full = (kind, told) == ("document-too-complex", "document-crash")
            is_right = (told == kind or is_full) and (status == 422 or not kind)
            spent = ended_cpu_s(pid) - spent
            is_back = after - base <= MOST_GROWTH_MB and len(children(pid)) <= 1
            faults += not (is_right and spent <= MOST_CPU_S and is_served and is_back)
            say(
                f"| {name} | {len(data)} | {took:.2f} | {spent:.2f} | {status} {told} |"
                f" {before:.0f} | {after:.0f} | {'served' if is_served else 'FAILED'} |"
            )
        say(f"faults {faults}, exit code {service.stop()}")
    return faults


def say(line: str) -> None:
    """Write a line at once: a bomb takes ten seconds."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def ended_cpu_s(pid: int) -> float:
    """Return what those processes have computed that `pid` started and that have ended."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    fields = text.rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def spare(pid: int) -> str:
    """Return the memory of the processes that `pid` has started."""
    return " + ".join(f"{rss_mb(child):.0f} MB" for child in children(pid)) or "none"


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]))))
