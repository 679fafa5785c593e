"""Our service under measurement: started from a bundle or a checkout, watched while it loads."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bundler.bench.client import HOST, Target
from bundler.bench.load import require
from bundler.errors import UsageError
from bundler.launch import Service, command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bundler.bench.client import Connection

READY_SECONDS = 600.0
KNOCK_SECONDS = 0.005
LOOK_SECONDS = 0.02
SERVING = 200
CHECKOUT = "checkout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The command line of the service without its options, where it is from, and its options.

    `service` is the folder that the package lies in.
    """

    words: tuple[str, ...]
    service: Path
    origin: str
    threads: int
    options: tuple[str, ...] = ()

    def with_model(self, folder: Path) -> Program:
        """Return the program told to serve the snapshot in `folder`.

        A bundle serves what it vouches for; with downloads allowed it takes what it is given.
        """
        told = ("--allow-download",) if self.origin != CHECKOUT else ()
        return replace(self, options=(*self.options, *told, "--model", str(folder)))

    def settings(self) -> tuple[str, ...]:
        """Return its options, the number of threads among them."""
        return (*self.options, "--threads", str(self.threads))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Seconds from the start of the process: to the first answer of the port, to the first vector.

    `phases` are what /health said in between, with the seconds at which it first did.
    """

    port_s: float
    ready_s: float
    vector_s: float
    phases: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A service that answered its first request."""

    service: Service
    target: Target
    start: Start
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """The process."""
        return self.service.process.pid


def from_bundle(bundle: Path, *, threads: int, options: Sequence[str] = ()) -> Program:
    """Return the service of `bundle`. Raises UsageError if there is none."""
    if not (bundle / "manifest.json").is_file():
        raise UsageError(
            f"there is no bundle in {bundle}", next_step="python3 build assemble, or --bundle PATH"
        )
    return Program(
        words=tuple(command(bundle, ())),
        service=bundle / "embedding_sidecar",
        origin=f"bundle {bundle.name}",
        threads=threads,
        options=tuple(options),
    )


def from_checkout(service: Path, *, threads: int, options: Sequence[str] = ()) -> Program:
    """Return the service of the sources in `service`, run by this Python."""
    return Program(
        words=(sys.executable, "-I", "-B", str(service)),
        service=service,
        origin=CHECKOUT,
        threads=threads,
        options=tuple(options),
    )


def thread_settings(threads: int) -> dict[str, str]:
    """Return the variables that hold every library of a program to so many threads."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
    found = {f"{name}_NUM_THREADS": str(threads) for name in names}
    return {**found, "RAYON_RS_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}


def start(program: Program, first: str, *, options: Sequence[str] = ()) -> Served:
    """Start the service on a free port of the loopback and ask it for the vector of `first`.

    Raises SmokeError with the end of its log if it ends or is not ready in time.
    """
    port = free_port()
    everything = [*program.words, "--port", str(port), *program.settings(), *options]
    environment = {**os.environ, **thread_settings(program.threads)}
    started = time.perf_counter()
    service = Service.run(everything, environment=environment, is_apart=True)
    service.ready = {"port": port}
    try:
        target = Target(name="sidecar", port=port)
        _knock(service, port, started)
        port_s = time.perf_counter() - started
        with target.connect() as connection:
            phases = _look_on(service, connection, started)
            ready_s = time.perf_counter() - started
            require(target, connection.embed([first]))
            vector_s = time.perf_counter() - started
            info = json.loads(connection.send("GET", "/info").body)
        seen = Start(port_s=port_s, ready_s=ready_s, vector_s=vector_s, phases=tuple(phases))
        return Served(service=service, target=target, start=seen, info=info)
    except BaseException:
        service.stop()
        raise


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _knock(service: Service, port: int, started: float) -> None:
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            _require_alive(service, started)
            time.sleep(KNOCK_SECONDS)
        else:
            return


def _look_on(service: Service, connection: Connection, started: float) -> list[tuple[str, float]]:
    """Return the phases until the service is ready."""
    phases: list[tuple[str, float]] = []
    while True:
        answer = connection.send("GET", "/health")
        now = time.perf_counter() - started
        if answer.status:
            phase = str(json.loads(answer.body).get("phase", answer.status))
            if not phases or phases[-1][0] != phase:
                phases.append((phase, now))
        if answer.status == SERVING:
            return phases
        _require_alive(service, started)
        time.sleep(LOOK_SECONDS)


def _require_alive(service: Service, started: float) -> None:
    if service.process.poll() is not None:
        service.stop()
        raise service.failure(f"it ended with exit code {service.process.returncode}")
    if time.perf_counter() - started > READY_SECONDS:
        raise service.failure(f"it was not ready within {READY_SECONDS:.0f} s")
