"""Clients of other services, in environments of their own and where only loopback is reached."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bundler import environment
from bundler.atomic import replace_files
from bundler.errors import UnreachableError
from bundler.project import Project
from tests.support.lacking import lack
from tests.support.running import program, running

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Project.here()
HERE = CHECKOUT.clients
OUT = CHECKOUT.out / "clients"
# What each run calls, and what only the full-size tests do.
QUICK, ALL = "quick", "all"
TOKEN = "a-token-for-the-clients"  # noqa: S105 - not one that anything else takes
QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "OTEL_SDK_DISABLED": "true",
}
MAX_SECONDS = 180


class Clients(Project):
    """The folder of the clients, whose pdm.lock the environment is made from."""

    @property
    def out(self) -> Path:
        """Where their environments lie."""
        return OUT


def python(group: str) -> Path:
    """Return the Python of the clients' environment, which has `group`; made once."""
    clients = Clients(root=HERE)
    try:
        environment.ensure(clients, [group], lambda _: None)
    except UnreachableError as error:
        lack(error.render())
    return environment.interpreter(clients)


def node(group: str) -> Path:
    """Return the folder with the clients for Node, those of `group`; made once."""
    import fcntl  # noqa: PLC0415 - not on Windows

    npm = shutil.which("npm")
    if npm is None:
        lack("there is no npm here")
    # What has all has those of the other group, too.
    folder, whole = OUT / f"node-{group}", OUT / f"node-{ALL}"
    if _is_made(whole):
        return whole
    folder.mkdir(parents=True, exist_ok=True)
    with (OUT / "node.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if _is_made(folder):
            return folder
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copyfile(HERE / name, folder / name)
        command = [npm, "ci", "--ignore-scripts", *(["--omit=dev"] if group == QUICK else [])]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode:
            lack(f"npm has no clients for us: {done.stderr.strip()[-300:]}")
        replace_files({folder / "made": _locked()})
    return folder


def _is_made(folder: Path) -> bool:
    made = folder / "made"
    return made.exists() and made.read_text(encoding="utf-8") == _locked()


def _locked() -> str:
    return hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()


@contextlib.contextmanager
def loopback() -> Iterator[list[str]]:
    """Give the words before a command by which it reaches nothing but this namespace's loopback."""
    words = ("unshare", "nsenter", "ip", "sh")
    found = {word: shutil.which(word) or lack(f"there is no {word} here") for word in words}
    script = f"{found['ip']} link set lo up && echo up && exec cat"
    holder = subprocess.Popen(
        [found["unshare"], "--map-root-user", "--net", found["sh"], "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "up\n":
            pytest.skip(f"no namespace can be made here: {holder.stderr.read().strip()}")
        try:
            at = f"--target={holder.pid}"
            yield [found["nsenter"], at, "--user", "--net", "--preserve-credentials"]
        finally:
            holder.stdin.close()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a client got: by case what it was given, or the error that it made of the answer."""

    found: dict[str, dict[str, Any]]
    outside: list[str]

    def given(self, case: str) -> Any:
        """Return what it was given. Fails with the error."""
        assert "error" not in self.found[case], self.found[case]
        return self.found[case]["given"]

    def refused(self, case: str) -> tuple[str, str]:
        """Return the error's name and what it says."""
        assert "error" in self.found[case], "it took the answer"
        return self.found[case]["error"], self.found[case]["said"]


@dataclass(frozen=True, kw_only=True)
class Services:
    """A service that takes any key, and one that takes TOKEN, in one namespace."""

    secluded: list[str]
    url: str
    guarded: str
    home: Path

    def run(self, command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
        """Return how a command ended that reached nothing but the services."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return subprocess.run(
            [*self.secluded, *command],
            input=text,
            env={**kept, **QUIET, "HOME": str(self.home)},
            cwd=self.home,
            capture_output=True,
            encoding="utf-8",
            timeout=MAX_SECONDS,
            check=False,
        )

    def ask(self, command: list[str], *, model: str, texts: list[str], long: str) -> Asked:
        """Return what the client that `command` starts got."""
        told = {"url": self.url, "guarded": self.guarded, "token": TOKEN, "model": model}
        done = self.run(command, json.dumps({**told, "texts": texts, "long": long}))
        assert done.returncode == 0, done.stderr
        return Asked(**json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def services(bundle: Path) -> Iterator[Services]:
    """Start both services of a bundle where only loopback is reached."""
    with contextlib.ExitStack() as stack:
        secluded = stack.enter_context(loopback())
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="clients."))
        command = [*secluded, *program(bundle), "--port", "0"]
        open_to_all = stack.enter_context(running(command))
        guarded = stack.enter_context(running(command, environment={"SIDECAR_TOKEN": TOKEN}))
        yield Services(
            secluded=secluded,
            url=f"http://127.0.0.1:{open_to_all.wait_ready()}",
            guarded=f"http://127.0.0.1:{guarded.wait_ready()}",
            home=Path(home),
        )


def python_command(name: str, group: str) -> list[str]:
    """Return the command of a client for Python."""
    return [str(python(group)), "-B", str(HERE / "ask.py"), name]


def own_command(name: str) -> list[str]:
    """Return the command of a client that this environment has, as it has our own API's."""
    return [sys.executable, "-B", str(HERE / "ask.py"), name]


def node_command(name: str, group: str) -> list[str]:
    """Return the command of a client for Node."""
    folder = node(group)
    # Packages are found from where the program lies.
    shutil.copyfile(HERE / "ask.mjs", folder / "ask.mjs")
    program = shutil.which("node")
    assert program is not None
    return [program, str(folder / "ask.mjs"), name]
