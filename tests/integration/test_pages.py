"""The documents' commands, run by a shell as they stand there."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bundler.targets import host_target
from tests.smoke.conftest import bundle
from tests.support.lacking import lack
from tests.support.pages import DOCUMENTS, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _pytest.mark import ParameterSet

__all__ = ["bundle"]

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUNDLE = "bundle/out/linux-x64"
UP = "python3 build up"
CURL = (
    "curl http://127.0.0.1:8421/embed -H 'Content-Type: application/json' "
    """-d '{"texts": ["hello world"]}'"""
)
IMAGE = "sidecar:0.1.0"
DOCKER_RUN = "docker run --rm -p 127.0.0.1:8421:8421"

# Run as they stand there: those that end, in an order in which each finds what it needs, and those
# that serve until they are interrupted.
ENDING = (
    "python3 build assemble",
    "mkdir -p ../my-app",
    "npm pack ./bundle/electron --pack-destination ../my-app",
    "npm install --prefix ../my-app ../my-app/sidecar-electron-0.1.0.tgz",
    "python3 build electron --output ../my-app/build/sidecar",
    "python3 build assemble --profile lean",
    "python3 build smoke bundle/out/linux-x64-lean",
    "python3 build diff bundle/out/linux-x64 bundle/out/linux-x64-lean --names",
    "python3 build update-size bundle/out/linux-x64 bundle/out/linux-x64-lean",
    "python3 build image --profile lean",
)
TAG = f"python3 build image --tag {IMAGE}"
SERVING = (
    UP,
    f"{UP} -- --allow-dir ~/Documents",
    f"{BUNDLE}/python/bin/python3.11 -I -B {BUNDLE}/embedding_sidecar --port 8421",
    "node bundle/electron/example/serve.js bundle/out/linux-x64",
)
CONTAINERS = (
    f"{DOCKER_RUN} {IMAGE}",
    f"{DOCKER_RUN} -v ~/Documents:/documents:ro {IMAGE} --allow-dir /documents",
    f"{DOCKER_RUN} {IMAGE} --allow-origin app://obsidian.md",
    f'{DOCKER_RUN} -v ~/token:/token:ro --user "$(id -u):$(id -g)" {IMAGE} --token-file /token',
    f"{DOCKER_RUN} -i {IMAGE} --token-stdin < ~/token",
    f"{DOCKER_RUN} --env SIDECAR_TOKEN {IMAGE}",
    (
        "docker run --rm --publish 127.0.0.1:8421:8421 --read-only --cap-drop ALL "
        "--security-opt no-new-privileges --pids-limit 128 --memory 1536m --memory-swap 1536m "
        f"{IMAGE}"
    ),
)

PORT = 8421
READY_SECONDS = 180
TOKEN = "a-token-for-the-documents"  # noqa: S105 - not one that anything else takes
pytestmark = pytest.mark.skipif(
    host_target().name != "linux-x64", reason="the documents show the paths of linux-x64"
)


def shown() -> list[str]:
    """Return each command of the documents' shell blocks, in one line, without its remark."""
    found = []
    for document in DOCUMENTS:
        for block in BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s{2,}#.*$", "", line)
                if command.strip():
                    found.append(" ".join(command.split()))
    return found


def test_commands_that_tests_run_are_shown() -> None:
    assert {*ENDING, TAG, *SERVING, CURL, *CONTAINERS} <= set(shown())


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that stands for a home and for what lies beside the checkout."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "Documents").mkdir()
    (folder / "my-app").mkdir()
    (folder / "my-app" / "package.json").write_text('{"name": "my-app"}', encoding="utf-8")
    token = folder / "token"
    token.write_text(f"{TOKEN}\n", encoding="utf-8")
    token.chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def tagged(engine: Any, base: Path, bundle: Path) -> Iterator[None]:
    """Load the image by the documents' own command."""
    assert base.is_file()
    assert bundle.is_dir()
    name = TAG.rpartition(" ")[2]
    was_there = any(name in image.tags for image in engine.images.list())
    assert run(TAG).returncode == 0
    yield
    if not was_there:
        engine.images.remove(name, force=True)


@pytest.fixture
def port() -> None:
    """See that nobody else has the port that the documents name."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            lack(f"port {PORT} is in use here")


def require(command: str) -> None:
    """See that the program is here that `command` begins with."""
    program = shlex.split(command)[0]
    if shutil.which(ROOT / program if "/" in program else program) is None:
        lack(f"there is no {program} here")


def one_always(commands: Sequence[str]) -> list[ParameterSet]:
    """Return the commands as parameters: the first one runs always, the others at full size."""
    return [
        pytest.param(command, marks=[pytest.mark.full] if number else [])
        for number, command in enumerate(commands)
    ]


def run(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )


def moved(command: str, elsewhere: Path) -> str:
    """Return `command` with the home and the app's folder elsewhere."""
    return command.replace("~/", f"{elsewhere}/").replace("../my-app", f"{elsewhere}/my-app")


@contextlib.contextmanager
def serving(command: str, said: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command that serves until it is interrupted; the block finds it ready."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        env={**os.environ, **({"SIDECAR_TOKEN": TOKEN} if "SIDECAR_TOKEN" in command else {})},
    ) as process:
        try:
            deadline = time.monotonic() + READY_SECONDS
            while health() != 200:
                assert process.poll() is None, words(said)
                assert time.monotonic() < deadline, words(said)
                time.sleep(0.1)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(60)


def health() -> int:
    """Return the status of /health, 0 if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def words(said: Any) -> str:
    """Return everything that was written to the file `said`."""
    return Path(said.name).read_text(encoding="utf-8", errors="replace")


def check(command: str, elsewhere: Path) -> str:
    """Serve, ask with the documents' own request, interrupt; return what was said."""
    with tempfile.NamedTemporaryFile() as said:
        with serving(moved(command, elsewhere), said) as process:
            bearer = f" -H 'Authorization: Bearer {TOKEN}'" if "token" in command.lower() else ""
            asked = run(f"{CURL} --silent --fail-with-body{bearer}")
            if "serve.js" in command:  # the app has made a token, and keeps it to itself
                assert json.loads(asked.stdout)["status"] == 401
            else:
                assert asked.returncode == 0, asked.stdout + words(said)
                assert len(json.loads(asked.stdout)["vectors"]) == 1
        assert process.returncode == 0, words(said)
        assert health() == 0
        return words(said)


@pytest.mark.parametrize(
    "commands", [ENDING[:1], pytest.param(ENDING, marks=pytest.mark.full)], ids=["first", "all"]
)
def test_documented_commands_succeed_in_order(
    commands: Sequence[str], bundle: Path, elsewhere: Path
) -> None:
    assert bundle.is_dir()
    for command in commands:
        require(command)
        done = run(moved(command, elsewhere))
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    if commands == ENDING:
        installed = elsewhere / "my-app" / "node_modules" / "@sidecar" / "electron"
        assert (installed / "src" / "index.js").is_file()
        assert (elsewhere / "my-app" / "build" / "sidecar" / "electron-builder.yml").is_file()


@pytest.mark.usefixtures("port", "bundle")
@pytest.mark.parametrize("command", one_always(SERVING))
def test_documented_services_answer_until_interrupted(command: str, elsewhere: Path) -> None:
    require(command)
    said = check(command, elsewhere)
    if command == UP:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        (output,) = (block for block in text.split("```text\n") if block.startswith("ready: "))
        assert output.partition("```")[0] in said
        assert UP in BLOCK.findall(text)[0]


@pytest.mark.usefixtures("port", "tagged")
@pytest.mark.parametrize("command", one_always(CONTAINERS))
def test_documented_containers_answer_until_interrupted(command: str, elsewhere: Path) -> None:
    check(command, elsewhere)
