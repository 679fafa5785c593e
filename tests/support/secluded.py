"""Run inside a network namespace of its own: starts a service, asks it, and tells what left it.

`unshare --net --mount python secluded.py COMMAND…` needs root. Names are resolved by a server that
never answers, and every packet that is sent anywhere goes nowhere. Prints one JSON object.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
from pathlib import Path

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
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={}, text=True
        )
        assert process.stdout is not None
        port = 0
        for line in process.stdout:
            event = json.loads(line.removeprefix("PROGRESS:"))
            if event["type"] == "ready":
                port = event["data"]["port"]
                break
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/embed", json.dumps({"texts": ["a", "b"]}), headers)
        answer = connection.getresponse()
        vectors = len(json.loads(answer.read())["vectors"])
        connection.close()
        process.terminate()
        code = process.wait(60)
        after = counters()
    told = {name: after[name] - before[name] for name in before}
    sys.stdout.write(json.dumps({**told, "vectors": vectors, "code": code}))


if __name__ == "__main__":
    main(sys.argv[1:])
