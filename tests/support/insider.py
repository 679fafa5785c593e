"""What runs on an otherwise empty machine, by the bundle's own interpreter: starts, asks, stops.

Standard library only; passed as text, with the bundle's path and a folder with documents. Reads
texts as JSON from standard input and writes what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 16


def refusal(action: Callable[..., object], *arguments: object) -> str | None:
    """Return the name of the error that `action` raises, None if it works."""
    try:
        action(*arguments)
    except OSError as error:
        return type(error).__name__
    return None


def post(port: int, path: str, body: object) -> Any:
    """Return the JSON that the service answers."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - http, see above
        return json.load(answer)


def main(bundle: str, documents: str) -> int:
    """Do it all, and say what was seen."""
    texts = json.load(sys.stdin)
    arguments = ["--port", "0", "--allow-dir", documents]
    service = subprocess.Popen(
        [sys.executable, "-I", "-B", f"{bundle}/embedding_sidecar", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={},
        encoding="utf-8",
    )
    assert service.stdout is not None
    events = []
    for line in service.stdout:
        events.append(json.loads(line.removeprefix("PROGRESS:")))
        if events[-1]["type"] == "ready":
            break
    else:
        return service.wait() or 1
    port = events[-1]["data"]["port"]
    vectors = []
    for at in range(0, len(texts), BATCH):
        vectors += post(port, "/embed", {"texts": texts[at : at + BATCH]})["vectors"]
    files = {
        name: post(port, "/embed-file", {"path": f"{documents}/{name}"})["chunks"]
        for name in sorted(os.listdir(documents))  # noqa: PTH208 - no import that is not needed
    }
    service.send_signal(signal.SIGTERM)
    seen = {
        "code": service.wait(),
        "rest": service.stdout.read(),
        "events": events,
        "vectors": vectors,
        "files": files,
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "environment": sorted(set(os.environ) - {"LC_CTYPE"}),
        "root": sorted(os.listdir("/")),  # noqa: PTH208
        "programs": [name for name in ("/bin/sh", "/usr/bin/env") if os.path.exists(name)],  # noqa: PTH110
        "network": refusal(socket.create_connection, ("192.0.2.1", 80), 2),
        "write": refusal(open, f"{bundle}/new", "w"),
    }
    sys.stdout.write(json.dumps(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
