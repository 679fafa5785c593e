"""Keeping a bundle's service in the foreground for a person at a terminal."""

from __future__ import annotations

import errno
import queue
import signal
import socket
from typing import TYPE_CHECKING

from bundler.errors import AddressInUseError, UsageError
from bundler.launch import Service, parse_ready

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import FrameType

    from bundler.console import Console

POLL_SECONDS = 0.2
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
LAST_PORT = 65535


def check_free(port: int) -> None:
    """Raise AddressInUseError if something listens on `port`, before any work is done.

    Raises UsageError for a number that no port has.
    """
    if not 0 <= port <= LAST_PORT:
        raise UsageError(f"there is no port {port}", why=f"ports go from 0 to {LAST_PORT}")
    if port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return
            raise AddressInUseError(
                f"port {port} on 127.0.0.1 is taken",
                why="another program listens there, perhaps a sidecar that is still running",
                next_step="stop it, or choose another port: python3 build up --port 0",
            ) from error


def serve(bundle: Path, port: int, arguments: Sequence[str], console: Console) -> int:
    """Run the service of `bundle` until it ends or we are asked to stop; return its exit code.

    The service is out of the terminal's reach, so that one Ctrl-C is one signal: to the service a
    second one means at once.
    """
    service: Service | None = None
    asked = 0

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if service is not None and service.process.poll() is None:
            service.process.send_signal(signal.SIGTERM)

    previous = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        service = Service.start(
            bundle,
            ["--log-format", "text", "--port", str(port), *arguments],
            is_quiet=False,
            is_apart=True,
        )
        if asked:
            service.process.send_signal(signal.SIGTERM)
        code = _follow(service, console)
    finally:
        if service is not None:
            service.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if asked and code in (0, -signal.SIGTERM):
        console.say("stopped")
    if asked and code == -signal.SIGTERM:
        # Asked before it had its own handlers: there was nothing to finish.
        return 0
    return code if code >= 0 else 128 - code


def _follow(service: Service, console: Console) -> int:
    """Greet people when the service is ready, and return its exit code once it has ended."""
    while True:
        try:
            line = service.lines.get(timeout=POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            return service.process.wait()
        event = parse_ready(line)
        if event is not None:
            _greet(int(event["port"]), console)


def _greet(port: int, console: Console) -> None:
    address = f"http://127.0.0.1:{port}"
    console.say(f"\nready: {address}   (Ctrl-C stops it)\ntry:")
    console.say(
        f"  curl {address}/embed -H 'Content-Type: application/json' "
        '-d \'{"texts": ["hello world"]}\''
    )
