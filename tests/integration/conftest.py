"""An engine, a base, our image in the engine, and the containers that most tests look at."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bundler.artifacts.store import Store
from bundler.console import Progress
from bundler.images.image import Image, compose, write
from bundler.images.layers import Layers
from bundler.project import Project
from bundler.recipe import epoch_for, read_recipe
from tests.smoke.conftest import arm, bundle, lean
from tests.support.containers import HARDENED, PORT, START_SECONDS
from tests.support.lacking import lack

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["arm", "bundle", "lean"]

PROJECT = Project.here()
SCRATCH = PROJECT.out / "scratch"
NAME = "sidecar-integration"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ALLOWED = "/documents"
# What a script says where a program or a key is missing.
USAGE = 2
START_ENGINE_S, STOP_ENGINE_S = 30.0, 20.0
BRIDGE = "sidecar"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Our image: what was written, and the name it has in the engine."""

    image: Image
    archive: Path
    name: str


def engine_answers(environment: dict[str, str] | None = None) -> bool:
    """Return whether an engine answers the `docker` program."""
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(
        ["docker", "info"], check=False, capture_output=True, env=environment, timeout=60
    )
    return done.returncode == 0


def engine_obstacle() -> str | None:
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
            deadline = time.monotonic() + START_ENGINE_S
            while not engine_answers({**os.environ, "DOCKER_HOST": address}):
                if process.poll() is not None or time.monotonic() > deadline:
                    text = (data / "log").read_text(encoding="utf-8", errors="replace")
                    message = f"dockerd did not start:\n{text[-3000:]}"
                    raise RuntimeError(message)
                time.sleep(0.3)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(STOP_ENGINE_S)
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


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """Return a client of the engine that runs here, or of one started for these tests."""
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 - not where there is no engine
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415

    # The reaper is an image from a registry; every container here is removed by its fixture.
    testcontainers_config.ryuk_disabled = True
    with contextlib.ExitStack() as stack:
        if not engine_answers():
            if reason := engine_obstacle():
                pytest.skip(reason)
            address = stack.enter_context(own_engine(SCRATCH))
            stack.enter_context(pytest.MonkeyPatch.context()).setenv("DOCKER_HOST", address)
        client = docker.from_env(timeout=300)
        stack.callback(client.close)
        yield client


@pytest.fixture(scope="session")
def base() -> Path:
    """Return the base for this machine's architecture."""
    return base_for(ARCHITECTURES[platform.machine()])


def base_for(architecture: str, *, has_shell: bool = False) -> Path:
    """Return the base for an architecture, made unless it is there."""
    infix, options = ("-shell", ["--shell"]) if has_shell else ("", [])
    path, program = PROJECT.out / f"base{infix}-{architecture}.tar", PROJECT.root / "ci" / "base"
    # One that an older script made may lack what a bundle wants now.
    if not path.is_file() or path.stat().st_mtime < program.stat().st_mtime:
        done = subprocess.run(
            [program, *options, architecture],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        # What it takes, mmdebstrap and Debian's keys, is not everywhere.
        if done.returncode == USAGE:
            reason, *_ = done.stderr.splitlines()
            lack(f"there is no {path.name}, and its making ends with {reason}")
        assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="session")
def loaded(engine: Any, bundle: Path, base: Path) -> Iterator[Loaded]:
    """Return the image of this machine's bundle, written by us and loaded by the engine."""
    epoch = epoch_for(read_recipe(PROJECT.recipe))
    with Layers(Store(PROJECT.store), Progress()) as layers:
        image = compose(bundle, layers, base=base, epoch=epoch)
    name = f"{NAME}:{os.getpid()}"
    archive = SCRATCH / f"{NAME}-{os.getpid()}.oci.tar"
    write([image], archive, name=name, epoch=epoch)
    try:
        with archive.open("rb") as stream:
            engine.images.load(stream)
        yield Loaded(image=image, archive=archive, name=name)
    finally:
        archive.unlink()
        with contextlib.suppress(Exception):
            engine.images.remove(name, force=True)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a text, readable by everybody."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "two.md").write_text("One thing.\n\n" + "Another thing. " * 80, encoding="utf-8")
    for path in (folder, *folder.parents):
        if path == folder or path.owner() == folder.owner():
            with contextlib.suppress(PermissionError):
                path.chmod(path.stat().st_mode | 0o055)
    return folder


@pytest.fixture(scope="session")
def served(loaded: Loaded, documents: Path) -> Iterator[Any]:
    """Return a container as people start it: hardened, with a port and a folder; it is ready."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - as above
    from testcontainers.core.wait_strategies import HttpWaitStrategy  # noqa: PLC0415

    ready = HttpWaitStrategy(PORT, "/health").with_header("Host", "localhost")
    container = (
        DockerContainer(loaded.name)
        .with_exposed_ports(PORT)
        .with_command(["--allow-dir", ALLOWED])
        .with_volume_mapping(str(documents), ALLOWED, "ro")
        .with_kwargs(**HARDENED)
        .waiting_for(ready.with_startup_timeout(timedelta(seconds=START_SECONDS)))
    )
    with container:
        yield container


def started(engine: Any, name: str, **options: Any) -> Any:
    """Return a hardened container, not waited for."""
    return engine.containers.run(name, detach=True, **{**HARDENED, **options})


@pytest.fixture(scope="session")
def isolated(engine: Any, loaded: Loaded) -> Iterator[Any]:
    """Return a container without any network."""
    container = started(engine, loaded.name, network_mode="none")
    try:
        yield container
    finally:
        container.remove(force=True)
