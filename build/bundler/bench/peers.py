"""Other embedding servers, if they are installed: each found, started and spoken to in its way.

Nothing is installed and nothing is guessed: a server that is not here is named as such. Those that
read GGUF files alone are given one, made from the same model, with `--peer-model NAME=FILE`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bundler.bench.client import HOST, Target
from bundler.bench.served import free_port, thread_settings
from bundler.errors import SmokeError
from bundler.launch import Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Name = Literal["infinity_emb", "text-embeddings-router", "ollama", "llama-server"]
NAMES: tuple[Name, ...] = ("infinity_emb", "text-embeddings-router", "ollama", "llama-server")
GGUF = ("ollama", "llama-server")
READY_SECONDS = 300.0
LOOK_SECONDS = 0.2
LARGEST = 1024
ALIAS = "sidecar-bench"
QUIET = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server that is installed here."""

    name: Name
    program: Path
    model: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A server that is not measured, and why."""

    name: str
    why: str


def find(
    paths: Sequence[Path], *, snapshot: Path, models: Mapping[str, Path]
) -> tuple[list[Peer], list[Absent]]:
    """Return the peers to measure and those that are not, from `paths` by file name and PATH."""
    given = {path.name: path for path in paths}
    peers: list[Peer] = []
    absent = [
        Absent(name=path.name, why="it is none of the servers that are known here")
        for path in paths
        if path.name not in NAMES
    ]
    for name in NAMES:
        program = given.get(name) or shutil.which(name)
        if program is None:
            absent.append(Absent(name=name, why="it is not installed"))
        elif not os.access(program, os.X_OK):
            absent.append(Absent(name=name, why=f"{program} cannot be run"))
        elif name in GGUF and name not in models:
            why = f"it reads GGUF files: --peer-model {name}=FILE"
            absent.append(Absent(name=name, why=why))
        else:
            model = models.get(name, snapshot)
            peers.append(Peer(name=name, program=Path(program).absolute(), model=model))
    return peers, absent


def start(peer: Peer, *, threads: int, folder: Path) -> tuple[Service, Target, float]:
    """Start `peer` on a free port; return it, how to speak to it, and seconds to its first vector.

    What it writes goes below `folder`. Raises SmokeError with the end of its log.
    """
    port = free_port()
    words, target = _invocation(peer, port, threads)
    home = folder / peer.name
    home.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        **thread_settings(threads),
        **QUIET,
        "OLLAMA_HOST": f"{HOST}:{port}",
        "OLLAMA_MODELS": str(home / "models"),
        "HOME": str(home),
    }
    started = time.perf_counter()
    service = Service.run(words, environment=environment, is_apart=True)
    service.ready = {"port": port}
    try:
        if peer.name == "ollama":
            _create(peer, home, environment, started)
        while True:
            with target.connect() as connection:
                if connection.embed(["ready"]).is_good:
                    return service, target, time.perf_counter() - started
            _require_alive(peer, service, started)
            time.sleep(LOOK_SECONDS)
    except BaseException:
        service.stop()
        raise


def _invocation(peer: Peer, port: int, threads: int) -> tuple[list[str], Target]:
    program, model = str(peer.program), str(peer.model)
    match peer.name:
        case "infinity_emb":
            words = [program, "v2", "--model-id", model, "--host", HOST, "--port", str(port)]
            words += ["--engine", "torch", "--device", "cpu", "--served-model-name", ALIAS]
            fields: dict[str, object] = {"model": ALIAS}
            return words, Target(
                name=peer.name, port=port, api="openai", largest=LARGEST, fields=fields
            )
        case "text-embeddings-router":
            words = [program, "--model-id", model, "--hostname", HOST, "--port", str(port)]
            words += ["--max-client-batch-size", str(LARGEST), "--auto-truncate"]
            return words, Target(name=peer.name, port=port, api="tei", largest=LARGEST)
        case "ollama":
            fields = {"model": ALIAS, "options": {"num_thread": threads}}
            return [program, "serve"], Target(
                name=peer.name, port=port, api="ollama", largest=LARGEST, fields=fields
            )
        case "llama-server":
            words = [program, "-m", model, "--host", HOST, "--port", str(port), "--embedding"]
            words += ["--pooling", "mean", "-t", str(threads), "-ub", "2048", "-b", "2048"]
            return words, Target(
                name=peer.name, port=port, api="openai", largest=LARGEST, prefix="/v1"
            )


def _create(peer: Peer, home: Path, environment: Mapping[str, str], started: float) -> None:
    """Tell a running ollama of the model's file."""
    recipe = home / "Modelfile"
    recipe.write_text(f"FROM {peer.model.absolute()}\n", encoding="utf-8")
    while True:
        done = subprocess.run(
            [str(peer.program), "create", ALIAS, "-f", str(recipe)],
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=READY_SECONDS,
        )
        if done.returncode == 0:
            return
        if time.perf_counter() - started > READY_SECONDS / 10:
            raise SmokeError(f"{peer.name} does not take the model", why=done.stderr.strip()[-400:])
        time.sleep(LOOK_SECONDS)


def _require_alive(peer: Peer, service: Service, started: float) -> None:
    if service.process.poll() is not None:
        service.stop()
        why = f"it ended with exit code {service.process.returncode}"
    elif time.perf_counter() - started > READY_SECONDS:
        why = f"it was not ready within {READY_SECONDS:.0f} s"
    else:
        return
    log = "\n    ".join(service.tail[-8:])
    raise SmokeError(f"{peer.name} could not be measured", why=f"{why}\n    {log}")
