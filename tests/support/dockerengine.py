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
    if missing := [name for name in ("docker", "dockerd", "containerd") if not shutil.which(name)]:
        return f"no container engine answers, and {', '.join(missing)} is not installed"
    if os.geteuid() != 0:
        return "no container engine answers, and only root could start one"
    return None


@contextlib.contextmanager
def own_engine(scratch: Path) -> Iterator[str]:
    """Give the address of an engine that lives below `scratch`, and end it afterwards."""
    scratch.mkdir(parents=True, exist_ok=True)
    # A socket's path must be short; everything else may lie deep.
    with tempfile.TemporaryDirectory(prefix="engine.") as short:
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
