"""A container engine for the tests: the one that runs, or one of our own that we end again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 30.0
BRIDGE = "sidecar"
STOP_SECONDS = 20.0


def answers(environment: dict[str, str] | None = None) -> bool:
    """Return whether an engine answers the `docker` program."""
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(
        ["docker", "info"], check=False, capture_output=True, env=environment, timeout=60
    )
    return done.returncode == 0


def obstacle() -> str | None:
    """Return why no engine can be started here, or None."""
    needed = ("docker", "dockerd", "containerd", "ip")
    if missing := [name for name in needed if not shutil.which(name)]:
        return f"no container engine answers, and {', '.join(missing)} is not installed"
    if os.geteuid() != 0:
        return "no container engine answers, and only root could start one"
    return None


@contextlib.contextmanager
def own_engine(scratch: Path) -> Iterator[str]:
    """Give the address of an engine that lives below `scratch`, and end it afterwards."""
    scratch.mkdir(parents=True, exist_ok=True)
    # A socket's path must be short; everything else may lie deep.
    with tempfile.TemporaryDirectory(prefix="engine.") as short, _own_bridge() as bridge:
        address = f"unix://{short}/docker.sock"
        data = Path(tempfile.mkdtemp(prefix="docker.", dir=scratch))
        with (data / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host={address}",
                    f"--data-root={data / 'data'}",
                    f"--exec-root={short}/exec",
                    f"--pidfile={short}/pid",
                    f"--bridge={bridge}",
                    # Ports are published by its proxy; the machine's own rules stay as they are.
                    "--iptables=false",
                    "--ip-forward=false",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers({**os.environ, "DOCKER_HOST": address}):
                if process.poll() is not None or time.monotonic() > deadline:
                    text = (data / "log").read_text(encoding="utf-8", errors="replace")
                    message = f"dockerd did not start:\n{text[-3000:]}"
                    raise RuntimeError(message)
                time.sleep(0.3)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def _own_bridge() -> Iterator[str]:
    """Give the name of a bridge that nobody else uses, and remove it afterwards.

    On a shared one, what an engine that was killed has left answers for containers of this one.
    """
    name = f"{BRIDGE}{os.getpid()}"
    taken = _ip("-4", "-oneline", "address")
    network = next(net for net in range(200, 256) if f" 10.213.{net}." not in taken)
    _ip("link", "add", name, "type", "bridge")
    try:
        _ip("address", "add", f"10.213.{network}.1/24", "dev", name)
        _ip("link", "set", name, "up")
        yield name
    finally:
        _ip("link", "delete", name)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
