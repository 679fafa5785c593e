"""Keeping a bundle's service in the foreground for a person at a terminal."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from bundler.errors import AddressInUseError, UsageError
from bundler.launch import CONTROL_C_EXIT, Service, parse_ready, scrubbed
from sidecar.process import listener

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import FrameType

    from bundler.console import Console

POLL_SECONDS = 0.2
TEXT = ("--log-format", "text")
STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
# Windows gives Ctrl-Break to every process at the terminal, so the service hears it by itself.
HEARD = getattr(signal, "SIGBREAK", None)
# How a service ends that was asked to before it had its own handlers: nothing was to be finished.
EARLY = frozenset({-signal.SIGTERM, CONTROL_C_EXIT})
# Of the service's options those that it answers at once.
TELLING = ("-h", "--help", "--version")


def check_options(service: Path, arguments: Sequence[str]) -> None:
    """Let the sources in `service` judge their own options, before any work is done.

    Raises UsageError with their words; SystemExit where they only tell of themselves.
    """
    if not arguments:
        return
    is_told = any(word in TELLING for word in arguments)
    done = subprocess.run(
        [sys.executable, "-I", "-B", str(service), "--check-options", *TEXT, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=None if is_told else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=scrubbed(os.environ),
        check=False,
    )
    if is_told and not done.returncode:
        raise SystemExit(0)
    if done.returncode:
        # What argparse says stands behind its usage, on one line.
        said = done.stderr.strip().rpartition("error: ")[2] or f"it ends with {done.returncode}"
        what, *rest = said.splitlines()
        parts = dict(line.strip().partition(": ")[::2] for line in rest)
        raise UsageError(
            what,
            why=parts.get("why", "the service does not take it"),
            next_step=parts.get("next", "python3 build up -- --help"),
        )


def check_free(port: int) -> None:
    """Raise AddressInUseError if another program has `port`, before any work is done."""
    if port == 0:
        return
    with socket.socket() as probe:
        listener.claim(probe)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if not listener.is_taken(error):
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

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if service is not None and number != HEARD:
            service.ask_to_stop()

    previous = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        service = Service.start(
            bundle,
            [*TEXT, "--port", str(port), *arguments],
            is_quiet=False,
            is_apart=True,
        )
        if asked:
            service.ask_to_stop()
        code = _follow(service, console)
    finally:
        if service is not None:
            service.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if asked and (code == 0 or code in EARLY):
        console.say("stopped")
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
            service.ready = event
            _greet(int(event["port"]), console)


def _greet(port: int, console: Console) -> None:
    address = f"http://127.0.0.1:{port}"
    console.say(f"\nready: {address}   (Ctrl-C stops it)\ntry:")
    console.say(
        f"  curl {address}/embed -H 'Content-Type: application/json' "
        '-d \'{"texts": ["hello world"]}\''
    )
