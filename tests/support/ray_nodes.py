"""Ray clusters of several nodes on this machine, on the loopback alone and with a token."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from sidecar.batch import ray_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parents[2]
ENDS_WITHIN_S = 240
TOKEN = secrets.token_hex(32)  # a process reads it once
ACTOR = "MapWorker(MapBatches(EngineActor))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """A cluster: its head, which computes nothing, and nodes of one core each by default."""

    cluster: Any
    environment: Mapping[str, str]

    @property
    def address(self) -> str:
        """What drivers join it by."""
        return str(self.cluster.address)

    def add(self, *, cores: int = 1, environment: Mapping[str, str] | None = None) -> Any:
        """Return one node more, which has `environment`, too."""
        before = dict(os.environ)
        os.environ |= environment or {}
        try:
            return _patiently(lambda: self.cluster.add_node(num_cpus=cores))
        finally:
            _restore(before)

    def kill(self, node: Any) -> None:
        """End all processes of a node at once."""
        self.cluster.remove_node(node, allow_graceful=False)

    def begin(self, folder: Path, *arguments: str) -> subprocess.Popen[str]:
        """Return a job on the cluster that has just been started."""
        return begin(folder, *arguments, "--ray", self.address, environment=self.environment)


def begin(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Return `embed` with the engine `hash`, started in `folder`."""
    command = [sys.executable, "-I", "-B", str(ROOT / "service"), "embed", "--engine", "hash"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env=environment or {},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def end(job: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Return a job's exit code, what it told of its output, and what it told people."""
    out, said = job.communicate(timeout=ENDS_WITHIN_S)
    return job.returncode, json.loads(out) if out else {}, said


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """Yield a cluster with so many nodes beside the head."""
    before = dict(os.environ)
    ray_environment.prepare(ray_environment.LOCAL)
    os.environ["RAY_AUTH_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, contextlib.ExitStack() as stack:
        stack.callback(_restore, before)
        # Not Ray's usual folder: it may be missing, or tell of a cluster that somebody else uses.
        os.environ["RAY_TMPDIR"] = folder
        from ray.cluster_utils import Cluster  # noqa: PLC0415 (reads the environment)

        head = {"num_cpus": 0, "include_dashboard": False}
        cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        stack.callback(cluster.shutdown)
        told = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
        made = Nodes(cluster=cluster, environment={**told, "PATH": os.environ["PATH"]})
        for _ in range(count):
            made.add()
        yield made


def _patiently(start: Callable[[], Any]) -> Any:
    """Return what `start` does: Ray gives a node half a minute, which may be too little."""
    for left in (2, 1, 0):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error) or not left:
                raise
    return None


def _restore(before: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ |= before


def actors() -> list[psutil.Process]:
    """Return the processes of this machine that hold an engine for a cluster of ours."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if ACTOR in " ".join(_command(process))
    ]


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
