"""Starting a bundle's service and ending it, as an app does, or in the foreground."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from bundler.bundle import SERVICE
from bundler.errors import AddressInUseError, SmokeError, UsageError
from sidecar.manifest import read
from sidecar.process import listener
from sidecar.process.children import needed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

    from bundler.console import Console

# The log as people read it.
TEXT = ("--log-format", "text")
# A process cannot defend itself against these, so its parent removes them.
SCRUBBED = ("LD_", "DYLD_", "PYTHON")
IS_WINDOWS = os.name == "nt"
STOP_SECONDS = 8.0
JOIN_SECONDS = 1.0
ASK_SECONDS = 2.0
OK = range(200, 300)
# What `subprocess` and `signal` name CREATE_NEW_PROCESS_GROUP and CTRL_BREAK_EVENT on Windows, and
# the exit code of a process that had no handler for the event (STATUS_CONTROL_C_EXIT).
NEW_PROCESS_GROUP = 0x200
CTRL_BREAK = 1
CONTROL_C_EXIT = 0xC000013A


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without what redirects a loader or an interpreter."""
    return {k: v for k, v in environment.items() if not k.upper().startswith(SCRUBBED)}


def command(bundle: Path, arguments: Sequence[str], through: Sequence[str] = ()) -> list[str]:
    """Return the command line that starts the service of `bundle`, by way of a script `through`."""
    program = bundle / read(bundle).runtime.executable
    return [str(program), "-I", "-B", *through, str(bundle / SERVICE), *arguments]


def apart(*, is_apart: bool, is_windows: bool) -> tuple[int, int | None]:
    """Return `creationflags` and `process_group` for Popen; on Windows Ctrl-Break needs a group."""
    if is_windows:
        return NEW_PROCESS_GROUP, None
    return 0, 0 if is_apart else None


@dataclass(kw_only=True)
class RunningService(AbstractContextManager["RunningService"]):
    """A running service: its process, its ready line, and the end of what it logged."""

    process: subprocess.Popen[str]
    lines: queue.Queue[str | None]
    ready: dict[str, Any] = field(default_factory=dict)
    tail: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    asked: int = 0

    @classmethod
    def start(
        cls,
        words: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        is_quiet: bool = True,
        is_apart: bool = False,
    ) -> RunningService:
        """Start a service by the words of its command line. A quiet one keeps its log for `tail`.

        One that is apart hears no signal from our terminal, only those we send. `environment` is
        all that it gets, but for what its system starts no Python without.
        """
        flags, group = apart(is_apart=is_apart, is_windows=IS_WINDOWS)
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if is_quiet else None,
            env=needed(os.environ) | scrubbed(os.environ if environment is None else environment),
            text=True,
            encoding="utf-8",
            errors="replace",
            creationflags=flags,
            process_group=group,
        )
        service = cls(process=process, lines=queue.Queue())
        for stream, take in ((process.stdout, service.lines.put), (process.stderr, service._keep)):
            if stream is not None:
                thread = threading.Thread(target=_read, args=(stream, take), daemon=True)
                thread.start()
                service.threads.append(thread)
        return service

    def _keep(self, line: str | None) -> None:
        if line is not None:
            self.tail = [*self.tail[-19:], line]

    def _join(self) -> None:
        """Let the readers end; a grandchild that keeps a pipe open is not waited for."""
        for thread in self.threads:
            thread.join(JOIN_SECONDS)

    @property
    def port(self) -> int:
        """The port it really listens on, known once it is bound."""
        return int(self.ready["port"])

    def wait_ready(self, timeout_s: float) -> dict[str, Any]:
        """Return the ready line once the model serves. Raises SmokeError with the evidence."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                line = self.lines.get(timeout=left_s)
            except queue.Empty:
                break
            if line is None:
                self.process.wait()
                self._join()
                raise self.failure(f"it ended with exit code {self.process.returncode}")
            event = parse_ready(line)
            if event is not None:
                self.ready = event
                return event
        raise self.failure(f"it was not ready within {timeout_s:.0f} s")

    def failure(self, why: str) -> SmokeError:
        """Return the error that says why, with the last lines of the log."""
        log = "\n    ".join(self.tail[-8:])
        return SmokeError(
            "the service of this bundle fails",
            why=f"{why}\n    {log}" if log else why,
            next_step="python3 build verify PATH tells whether the bundle is damaged",
        )

    def request(self, path: str, body: object = None, *, timeout_s: float = 60) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON answer of one request. Raises SmokeError on anything but 2xx."""
        method = "GET" if body is None and path != "/shutdown" else "POST"
        data = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            with closing(connection):
                connection.request(method, path, data, headers)
                with connection.getresponse() as answer:
                    if answer.status not in OK:
                        raise self.failure(f"{path} answered {answer.status}")
                    return json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self.failure(f"{path} did not answer ({error})") from error

    def ask_to_stop(self) -> None:
        """Ask the service to end; asked again, on Windows for the third time, it ends at once."""
        if self.process.poll() is not None:
            return
        self.asked += 1
        if not IS_WINDOWS:
            self.process.terminate()
        elif self.asked > 1 or not self._is_told():
            try:
                self.process.send_signal(CTRL_BREAK)
            except OSError:  # there is no console, by which it would go
                self.process.terminate()

    def _is_told(self) -> bool:
        """Return whether it answered POST /shutdown; one with a token does not answer us."""
        if not self.ready:
            return False
        try:
            self.request("/shutdown", timeout_s=ASK_SECONDS)
        except SmokeError:
            return False
        return True

    def stop(self) -> int:
        """Ask the service to end, insist if it does not, and return its exit code."""
        if self.process.poll() is None:
            self.ask_to_stop()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._join()
        return self.process.returncode

    def end(self) -> None:
        """Stop it. Raises SmokeError with the evidence where it does not end well."""
        code = self.stop()
        if code != 0:
            raise self.failure(f"when stopped, it ended with exit code {code}")

    def __exit__(self, *_: object) -> None:
        """Stop it, whatever happened."""
        self.stop()


def _read(stream: IO[str], take: Callable[[str | None], None]) -> None:
    """Give every line of `stream` to `take`, then None."""
    with stream:
        for line in stream:
            take(line.rstrip("\n"))
    take(None)


def parse_ready(line: str) -> dict[str, Any] | None:
    """Return what a ready line says, or None for any other line."""
    prefix = "PROGRESS:"
    if not line.startswith(prefix):
        return None
    try:
        event = json.loads(line[len(prefix) :])
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("type") != "ready":
        return None
    data = event.get("data")
    return data if isinstance(data, dict) and "port" in data else None


POLL_SECONDS = 0.2
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
    service: RunningService | None = None
    asked = 0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if service is not None and number != HEARD:
            service.ask_to_stop()

    previous = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        service = RunningService.start(
            command(bundle, [*TEXT, "--port", str(port), *arguments]), is_quiet=False, is_apart=True
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


def _follow(service: RunningService, console: Console) -> int:
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
            address = f"http://127.0.0.1:{event['port']}"
            console.say(f"\nready: {address}   (Ctrl-C stops it)\ntry:")
            console.say(
                f"  curl {address}/embed -H 'Content-Type: application/json' "
                '-d \'{"texts": ["hello world"]}\''
            )
