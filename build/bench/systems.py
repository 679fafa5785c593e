"""The systems under measurement: our service, libraries in process, and other embedding servers.

Each is a program that is started on a free port of the loopback and asked over HTTP. Nothing is
installed: what is not on this machine is absent, with the reason.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never, get_args

import numpy as np

from bench.client import HOST, Answer, Api, Connection
from bundler.errors import SmokeError
from bundler.launch import RunningService

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sidecar.settings import Precision

LIBRARY, FASTEMBED = "sentence-transformers", "fastembed"
LIBRARY_SERVER = Path(__file__).with_name("library_server.py")
ONNX_EXPORT = Path(__file__).with_name("onnx_export.py")
OURS, INT8 = "sidecar", "sidecar int8"
# Our services, each with its engine in a process of its own.
ENGINES = {OURS: "sidecar in process", INT8: "sidecar int8 in process"}
PRECISIONS: Mapping[str, Precision] = {OURS: "float32", INT8: "int8"}
# What fastembed computes is our model: vectors farther than that from ours are another's.
SAME_COSINE = 0.9999
PeerName = Literal["infinity_emb", "text-embeddings-router", "ollama", "llama-server"]
PEERS: tuple[PeerName, ...] = get_args(PeerName)
GGUF = ("ollama", "llama-server")
MODEL_NAME = "sidecar-bench"
# Stands for the port in a command and its environment.
PORT = "{port}"
READY_SECONDS = 600.0
SET_UP_SECONDS = 30.0
POLL_SECONDS = 0.02
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
INFO_FIELDS = ("version", "engine", "precision", "device", "max_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A program that embeds: how it is started, asked for its version, and spoken to.

    `set_up` is run until it succeeds, once the program was started; `environment` is added to ours.
    Nothing is measured of a system whose vectors have a cosine to ours below `least_cosine`.
    """

    name: str
    kind: Literal["sidecar", "engine", "library", "peer"]
    command: Sequence[str]
    api: Api
    environment: Mapping[str, str] = field(default_factory=dict)
    set_up: Sequence[str] = ()
    version: Sequence[str] = ()
    least_cosine: float | None = None

    @property
    def is_in_process(self) -> bool:
        """Whether it measures itself, and HTTP is only how the texts get there."""
        return self.kind in ("engine", "library")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started system, with the seconds from the start of its process to its first vector."""

    system: System
    service: RunningService
    start_s: float

    def connect(self) -> Connection:
        """Return a new client's connection."""
        return Connection(self.service.port, self.system.api)

    def single(self, texts: Sequence[str], *, service: Running | None = None) -> list[list[float]]:
        """Return the seconds of each text by itself in process and, by turns, in `service`.

        Raises SmokeError if it fails.
        """
        port = {} if service is None else {"port": service.service.port}
        with self.connect() as connection:
            body = json.dumps({"texts": list(texts), **port}).encode()
            answer = connection.send("POST", "/single", body)
        if not answer.is_ok:
            why = answer.body[:200].decode(errors="replace")
            raise SmokeError(f"{self.system.name} did not embed single texts", why=why)
        found: list[list[float]] = json.loads(answer.body)["seconds"]
        return found

    def info(self) -> dict[str, Any]:
        """Return the versions of libraries, the engine of our service, or the version of a peer."""
        if self.system.kind == "peer":
            return {"version": first_line(self.system.version)}
        with self.connect() as connection:
            if self.system.is_in_process:
                return dict(json.loads(connection.send("POST", "/versions", b"{}").body))
            info = json.loads(connection.send("GET", "/info").body)
            return {key: info[key] for key in INFO_FIELDS}


def decoded(answer: dict[str, Any]) -> NDArray[np.float32]:
    """Return the rows in a response of library_server.py."""
    return np.frombuffer(base64.b64decode(answer["rows"]), "<f4").reshape(-1, answer["width"])


SIDECAR = Api(path="/embed", texts="texts", rows=itemgetter("vectors"), largest=4096)
IN_PROCESS = replace(SIDECAR, rows=decoded, largest=sys.maxsize)
GEMM = Api(path="/gemm", texts="products", rows=itemgetter("rates"))


def ours(program: Sequence[str], threads: int) -> list[System]:
    """Return our service in float32 and in int8, started by the command `program`."""
    whole = (*program, "--port", PORT, "--threads", str(threads))
    return [
        System(name=OURS, kind="sidecar", command=whole, api=SIDECAR),
        System(name=INT8, kind="sidecar", command=(*whole, "--precision", "int8"), api=SIDECAR),
    ]


def library(snapshot: Path, threads: int, *, api: Api = IN_PROCESS) -> System:
    """Return sentence-transformers, in a process of its own that only talks over HTTP."""
    command = _in_process(sys.executable, LIBRARY, snapshot, threads)
    return System(name=LIBRARY, kind="library", command=command, api=api)


def engines(python: str, service: Path, snapshot: Path, threads: int) -> list[System]:
    """Return our packed engine in float32 and in int8, each in a process of its own.

    `python` has its packages, `service` its sources, and `snapshot` its graphs.
    """
    command = _in_process(python, "packed", snapshot, threads)
    return [
        System(
            name=name,
            kind="engine",
            command=[*command, str(service), PRECISIONS[whose]],
            api=IN_PROCESS,
        )
        for whose, name in ENGINES.items()
    ]


def fastembed(python: Path, snapshot: Path, threads: int, home: Path) -> System:
    """Return fastembed in the interpreter `python`, with the model as torch exports it to `home`.

    Raises SmokeError if it cannot be exported, OSError if the interpreter cannot be run.
    """
    if not os.access(python, os.X_OK):
        raise PermissionError(f"{python} cannot be run")
    export = (sys.executable, "-I", "-B", str(ONNX_EXPORT), str(snapshot), str(home))
    done = subprocess.run(
        export, capture_output=True, encoding="utf-8", check=False, env={**os.environ, **OFFLINE}
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SmokeError("the model cannot be exported as ONNX", why=why)
    return System(
        name=FASTEMBED,
        kind="library",
        command=_in_process(str(python), FASTEMBED, home, threads),
        api=IN_PROCESS,
        least_cosine=SAME_COSINE,
    )


def _in_process(python: str, library: str, model: Path, threads: int) -> list[str]:
    """Return the command of a library that loads `model` in a process of its own."""
    program = [python, "-I", "-B", str(LIBRARY_SERVER)]
    return [*program, PORT, library, str(model), str(threads)]


def others(
    snapshot: Path, threads: int, programs: Sequence[Path], models: Mapping[str, Path], home: Path
) -> tuple[list[System], dict[str, str]]:
    """Return the other systems on this machine, and the reasons of those that are absent.

    Servers are taken from `programs`, by file name, or from PATH; those that read GGUF alone take
    their file from `models`. What they write goes below `home`.
    """
    given = {path.name: path for path in programs}
    absent = {name: f"it is none of {', '.join(PEERS)}" for name in given if name not in PEERS}
    found = []
    if importlib.util.find_spec("sentence_transformers") is None:
        absent[LIBRARY] = "this environment does not have it"
    else:
        found.append(library(snapshot, threads))
    for name in PEERS:
        program = given.get(name) or shutil.which(name)
        if program is None:
            absent[name] = "it is not installed"
        elif not os.access(program, os.X_OK):
            absent[name] = f"{program} cannot be run"
        elif name in GGUF and name not in models:
            absent[name] = f"it reads GGUF files: --peer-model {name}=FILE"
        else:
            model = models.get(name, snapshot).absolute()
            found.append(_peer(name, Path(program).absolute(), model, threads, home / name))
    return found, absent


def start(system: System, first: Sequence[object], *, threads: int) -> Running:
    """Start `system` and send it the texts `first` until it answers.

    Raises SmokeError with the end of its log if it ends, fails or is not ready in time, OSError if
    it cannot be run.
    """
    port = free_port()
    environment = {**os.environ, **thread_settings(threads)}
    environment |= {k: v.replace(PORT, str(port)) for k, v in system.environment.items()}
    arguments = [str(port) if part == PORT else part for part in system.command]
    body = system.api.body(first)
    started = time.perf_counter()
    service = RunningService.start(arguments, environment=environment, is_apart=True)
    service.ready = {"port": port}
    try:
        _set_up(system, environment)
        while True:
            with Connection(port, system.api) as connection:
                answer = connection.post(body)
            seconds = time.perf_counter() - started
            if answer.is_ok:
                return Running(system=system, service=service, start_s=seconds)
            _require_starting(system, service, answer, seconds)
            time.sleep(POLL_SECONDS)
    except BaseException:
        service.stop()
        raise


def _require_starting(
    system: System, service: RunningService, answer: Answer, seconds: float
) -> None:
    """Raise SmokeError with the end of its log once a system cannot become ready any more."""
    why = answer.body[:200].decode(errors="replace")
    if (code := service.process.poll()) is not None:
        service.stop()
        why = f"it ended with exit code {code}"
    elif answer.status != HTTPStatus.INTERNAL_SERVER_ERROR and seconds < READY_SECONDS:
        return
    log = "\n    ".join([why, *service.tail[-8:]])
    raise SmokeError(f"{system.name} gave no vector in {seconds:.0f} s", why=log)


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def thread_settings(threads: int) -> dict[str, str]:
    """Return the variables that hold every library to this number of threads, and offline."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON", "RAYON_RS")
    return {**{f"{name}_NUM_THREADS": str(threads) for name in names}, **OFFLINE}


def first_line(command: Sequence[str]) -> str:
    """Return the first line that a program prints, or that it is unknown."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return next(iter((done.stdout or done.stderr).splitlines()), "unknown").strip()


def _peer(name: PeerName, program: Path, model: Path, threads: int, home: Path) -> System:
    home.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {"model": MODEL_NAME}
    listen = ["--host", HOST, "--port", PORT]
    system = System(
        name=name,
        kind="peer",
        command=[str(program)],
        api=Api(path="/embeddings", texts="input", rows=_data, fields=fields),
        environment={"HOME": str(home), "INFINITY_ANONYMOUS_USAGE_STATS": "0"},
        version=[str(program), "--version"],
    )
    match name:
        case "infinity_emb":
            arguments = ["v2", "--model-id", str(model), "--served-model-name", MODEL_NAME, *listen]
            arguments += ["--engine", "torch", "--device", "cpu"]
            code = "from importlib.metadata import version; print(version('infinity_emb'))"
            system = replace(system, version=[str(program.with_name("python")), "-c", code])
        case "text-embeddings-router":
            api = Api(path="/embed", texts="inputs", rows=list)
            arguments = ["--model-id", str(model), "--hostname", HOST, "--port", PORT]
            arguments += ["--max-client-batch-size", str(api.largest), "--auto-truncate"]
            system = replace(system, api=api)
        case "ollama":
            arguments, recipe = ["serve"], home / "Modelfile"
            recipe.write_text(f"FROM {model}\n", encoding="utf-8")
            fields["options"] = {"num_thread": threads}
            own = {"OLLAMA_HOST": f"{HOST}:{PORT}", "OLLAMA_MODELS": str(home / "models")}
            system = replace(
                system,
                api=replace(system.api, path="/api/embed", rows=itemgetter("embeddings")),
                environment={**system.environment, **own},
                set_up=[str(program), "create", MODEL_NAME, "-f", str(recipe)],
            )
        case "llama-server":
            arguments = ["-m", str(model), *listen, "--embedding", "--pooling", "mean"]
            arguments += ["-t", str(threads), "-ub", "2048", "-b", "2048"]
            system = replace(system, api=replace(system.api, path="/v1/embeddings"))
        case unknown:
            assert_never(unknown)
    return replace(system, command=[*system.command, *arguments])


def _data(answer: dict[str, Any]) -> list[Any]:
    """Return the rows in a response of OpenAI's form."""
    return [row["embedding"] for row in answer["data"]]


def _set_up(system: System, environment: Mapping[str, str]) -> None:
    """Run the set-up of a started system until it succeeds: it needs a server that listens."""
    until = time.monotonic() + SET_UP_SECONDS
    while system.set_up:
        done = subprocess.run(
            system.set_up, env=dict(environment), capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode == 0:
            return
        if time.monotonic() > until:
            why = done.stderr.strip()[-400:]
            raise SmokeError(f"{system.name} does not take the model", why=why)
        time.sleep(POLL_SECONDS)
