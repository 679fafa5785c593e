"""The bundle in another place, under strange circumstances: it works, and stays as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bundler.console import Progress
from bundler.smoke import pdf
from bundler.verify import verify
from sidecar.manifest import read
from sidecar.models.golden import MIN_COSINE, Golden
from sidecar.models.golden import read as read_golden
from tests.support import chroot, copies, insider
from tests.support.clients import Client
from tests.support.running import program, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's ways of locking things")

PLACE = "Été à Paris/My App (x64)/resources"
DOCUMENTS = {"page.pdf": pdf("Boats (two) leave."), "note.txt": "Sal e água.\n".encode()}
# Every third one has all kinds of texts, and the whole file is compared elsewhere.
EVERY = 3


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The copy, the machine it stands in, and what was on record before anything ran."""

    bundle: Path
    room: Path
    before: copies.Record
    golden: Golden


@dataclass(frozen=True, kw_only=True)
class Lived:
    """One life of the service: its last event, its vectors, how it ended and what it logged."""

    ready: dict[str, Any]
    vectors: list[list[float]]
    code: int
    log: str


def some_of(golden: Golden) -> Golden:
    """Return every third text with its vector."""
    return replace(golden, texts=golden.texts[::EVERY], vectors=golden.vectors[::EVERY])


@pytest.fixture(scope="module")
def moved(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    room = tmp_path_factory.mktemp("machine")
    # pytest keeps its folders to itself; this one is the root of somebody else's machine.
    room.chmod(0o755)
    path = read(bundle).models[0].golden
    assert path is not None
    copy = copies.locked(bundle, room / PLACE)
    yield Moved(
        bundle=copy,
        room=room,
        before=copies.record(copy),
        golden=some_of(read_golden(copy / path)),
    )
    copies.remove(room)


def live(
    command: Sequence[str],
    golden: Golden,
    *,
    environment: Mapping[str, str],
    cwd: Path,
    number: int,
) -> Lived:
    """Start, embed, stop by the signal `number`."""
    with running([*command, "--port", "0"], environment=environment, cwd=cwd) as service:
        client = Client(port=service.wait_ready())
        vectors = client.embed(golden.texts).tolist()
        code = service.stop(number)
        return Lived(ready=service.events[-1], vectors=vectors, code=code, log=service.log)


@pytest.fixture(scope="module")
def alone(moved: Moved) -> Any:
    """Return what was seen on a machine that has glibc, the compiler's libraries and no more."""
    if reason := chroot.obstacle():
        pytest.skip(reason)
    python = moved.bundle / read(moved.bundle).runtime.executable
    chroot.furnish(moved.room, python, (*chroot.GLIBC, *chroot.COMPILER))
    chroot.add_devices(moved.room)
    for name, data in DOCUMENTS.items():
        (moved.room / "documents").mkdir(exist_ok=True)
        (moved.room / "documents" / name).write_bytes(data)
    script = Path(insider.__file__).read_text(encoding="utf-8")
    inner = [f"/{python.relative_to(moved.room)}", "-I", "-B", "-c", script]
    command = [*inner, f"/{PLACE}", "/documents"]
    done = subprocess.run(
        chroot.inside(Path(sys.executable), moved.room, command, uid=chroot.STRANGER),
        input=json.dumps(moved.golden.texts),
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def hostile(moved: Moved, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lived, Path]:
    """Return a life by the old spelling, isolated, where every variable means harm; and TMPDIR."""
    trap = tmp_path_factory.mktemp("trap")
    for name in ("json.py", "socket.py", "torch.py", "sitecustomize.py", "sidecar.py"):
        (trap / name).write_text("raise SystemExit('the trap was imported')\n", encoding="utf-8")
    empty = tmp_path_factory.mktemp("temporary")
    nowhere = "http://127.0.0.1:9"
    environment = {
        "PYTHONPATH": str(trap),
        "PYTHONHOME": str(trap),
        "PYTHONSTARTUP": str(trap / "json.py"),
        "PYTHONWARNINGS": "error",
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "ALL_PROXY": nowhere,
        "http_proxy": nowhere,
        "HOME": "/nonexistent",
        "HF_HOME": "/nonexistent",
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": nowhere,
        "TMPDIR": str(empty),
        "LANG": "tr_TR.ISO-8859-9",
        "LC_ALL": "C",
        "COLUMNS": "0",
    }
    command = program(moved.bundle, "embedding_sidecar/embed_server.py")
    lived = live(command, moved.golden, environment=environment, cwd=trap, number=signal.SIGINT)
    return lived, empty


@pytest.fixture(scope="module")
def plain(moved: Moved, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Return a life by the old spelling with no flag at all, as older apps start it."""
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o555)
    python, *_, script = program(moved.bundle, "embedding_sidecar/embed_server.py")
    environment = {"HOME": str(home), "PATH": "/nonexistent"}
    lived = live(
        [python, script], moved.golden, environment=environment, cwd=home, number=signal.SIGTERM
    )
    assert os.listdir(home) == []  # noqa: PTH208
    return lived


@pytest.fixture(scope="module")
def offline(moved: Moved) -> Lived:
    """Return a life where loopback is the only network."""
    if reason := chroot.obstacle():
        pytest.skip(reason)
    command = [*chroot.offline(Path(sys.executable), program(moved.bundle)), "--port", "0"]
    # Nobody out here reaches that loopback, so it is asked whether it is ready, and to stop.
    with running(command, environment={"PATH": os.environ["PATH"]}) as service:
        service.wait_ready()
        code = service.stop()
        return Lived(ready=service.events[-1], vectors=[], code=code, log=service.log)


def test_alone_on_a_machine_it_gives_the_golden_vectors(moved: Moved, alone: Any) -> None:
    assert moved.golden.cosines(alone["vectors"]).min() >= MIN_COSINE


def test_alone_on_a_machine_it_reads_documents(alone: Any) -> None:
    assert [text.strip() for text in alone["files"]["page.pdf"]] == ["Boats (two) leave."]
    assert [text.strip() for text in alone["files"]["note.txt"]] == ["Sal e água."]


def test_alone_on_a_machine_it_announces_itself_and_stops_with_0(alone: Any) -> None:
    kinds = [event["type"] for event in alone["events"]]
    assert kinds == ["model_cached", "model_loaded", "ready"]
    assert alone["code"] == 0
    assert alone["rest"] == ""


def test_machine_had_no_python_shell_network_or_user(
    alone: Any,
) -> None:
    place = PLACE.split("/", maxsplit=1)[0]
    assert alone["root"] == ["dev", "documents", "lib", "lib64", "proc", place]
    assert alone["programs"] == []
    assert alone["network"] == "OSError"
    assert alone["write"] == "OSError"
    assert (alone["uid"], alone["groups"]) == (chroot.STRANGER, [])
    assert alone["environment"] == []


def test_the_old_spelling_works_among_hostile_variables(
    moved: Moved, hostile: tuple[Lived, Path]
) -> None:
    lived, _ = hostile
    assert moved.golden.cosines(lived.vectors).min() >= MIN_COSINE
    assert lived.code == 0
    assert "trap" not in lived.log


def test_nothing_is_left_in_the_temporary_folder(hostile: tuple[Lived, Path]) -> None:
    _, temporary = hostile
    assert list(temporary.iterdir()) == []


def test_old_spelling_works_with_an_unwritable_home(moved: Moved, plain: Lived) -> None:
    assert moved.golden.cosines(plain.vectors).min() >= MIN_COSINE
    assert plain.code == 0


def test_with_loopback_as_the_only_network_it_starts_as_usual(offline: Lived) -> None:
    assert offline.ready["data"]["host"] == "127.0.0.1"
    assert offline.code == 0


@pytest.mark.usefixtures("hostile", "plain")
def test_after_all_that_not_a_byte_and_not_a_name_has_changed(
    moved: Moved, request: pytest.FixtureRequest
) -> None:
    if chroot.obstacle() is None:
        request.getfixturevalue("alone")
        request.getfixturevalue("offline")
    assert copies.record(moved.bundle) == moved.before
    verify(moved.bundle, Progress())
