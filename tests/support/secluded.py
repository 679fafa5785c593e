"""Run inside a network namespace of its own: starts a service, asks it, and tells what left it.

`unshare --net --mount python -m tests.support.secluded COMMAND…` needs root. Names are resolved by
a server that never answers, and every packet goes nowhere. Prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.clients import Client
from tests.support.running import running

NOWHERE = "192.0.2.1"


def counters() -> dict[str, int]:
    """Return what this namespace sent so far: datagrams, and connections that were begun."""
    lines = Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()
    found: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        kind = names.partition(":")[0]
        pairs = zip(names.split()[1:], values.split()[1:], strict=True)
        found |= {f"{kind}.{name}": int(value) for name, value in pairs}
    return {"datagrams": found["Udp.OutDatagrams"], "connections": found["Tcp.ActiveOpens"]}


def main(command: list[str]) -> None:
    """Seclude, start, ask, stop, tell."""
    for words in (["link", "set", "lo", "up"], ["route", "add", "default", "dev", "lo"]):
        subprocess.run(["ip", *words], check=True)
    with tempfile.NamedTemporaryFile("w", encoding="ascii") as resolver:
        resolver.write(f"nameserver {NOWHERE}\noptions timeout:5 attempts:2\n")
        resolver.flush()
        subprocess.run(["mount", "--bind", resolver.name, "/etc/resolv.conf"], check=True)
        before = counters()
        with running(command) as service:
            vectors = len(Client(port=service.wait_ready()).embed(["a", "b"]))
            code = service.stop()
        after = counters()
    told = {name: after[name] - before[name] for name in before}
    sys.stdout.write(json.dumps({**told, "vectors": vectors, "code": code}))


if __name__ == "__main__":
    main(sys.argv[1:])
