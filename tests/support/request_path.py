"""Count the service's modules that one warm POST /embed enters: `ci/count request-path [MODEL]`.

The real service in this process, with the model in the folder MODEL, or the engine that hashes
words; every thread of it is profiled.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from bench.systems import free_port
from sidecar import cli

if TYPE_CHECKING:
    from types import FrameType

SAME = 6
WAIT_S = 120
BODY = json.dumps({"texts": ["the cat sat on the mat", "rivers run to the sea"]})


class Recorder:
    """Notes the modules whose functions are called while it is on."""

    def __init__(self) -> None:
        self.is_on = False
        self.modules: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if self.is_on and event == "call":
            name = frame.f_globals.get("__name__", "")
            if name.partition(".")[0] == "sidecar":
                self.modules.add(name)


def ask(port: int, recorder: Recorder) -> None:
    """Ask once the service is ready, tell what the last request entered, and end the process."""
    deadline = time.monotonic() + WAIT_S
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    while time.monotonic() < deadline and not _is_ready(client):
        client.close()
        time.sleep(0.1)
    seen: list[set[str]] = []
    # Until what a start does beside the requests is over: the same several times.
    while time.monotonic() < deadline and not (
        len(seen) >= SAME and seen[-SAME:] == seen[-1:] * SAME
    ):
        time.sleep(0.5)
        recorder.modules = set()
        recorder.is_on = True
        status = _status(client, "POST", "/embed", BODY)
        time.sleep(0.2)
        recorder.is_on = False
        if status != http.HTTPStatus.OK:
            os._exit(1)
        seen.append(recorder.modules)
    lines = [*sorted(seen[-1]), f"{len(seen[-1])} modules"]
    os.write(2, "\n".join(lines).encode() + b"\n")
    os._exit(0)


def _is_ready(client: http.client.HTTPConnection) -> bool:
    try:
        return _status(client, "GET", "/health") == http.HTTPStatus.OK
    except OSError:
        return False


def _status(client: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> int:
    client.request(method, path, body=body, headers={"Content-Type": "application/json"})
    answer = client.getresponse()
    answer.read()
    return answer.status


def main(arguments: list[str]) -> None:
    """Run the service until the requests were answered."""
    recorder, port = Recorder(), free_port()
    threading.Thread(target=ask, args=(port, recorder), daemon=True).start()
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    model = ["--model", arguments[0]] if arguments else ["--engine", "hash"]
    cli.run(["--port", str(port), "--log-level", "error", *model])


if __name__ == "__main__":
    main(sys.argv[1:])
