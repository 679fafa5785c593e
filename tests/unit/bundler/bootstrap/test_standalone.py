from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.download import Patience
from bundler.artifacts.store import Store
from bundler.bootstrap.platforms import PYTHON, supported, this_machine
from bundler.bootstrap.standalone import Standalone
from bundler.console import Console
from bundler.errors import IntegrityError, UnreachableError, UnsupportedError
from bundler.locks.runtime import write_lock
from bundler.targets import TARGETS
from tests.support.badserver import BadServer, cut_at, wrong
from tests.support.miniature import Miniature
from tests.support.standalone import write_release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = supported(this_machine())
SOURCE = "https://runtime.invalid"
FACTS = {
    "implementation": "cpython",
    "version": [*PYTHON, 17],
    "bits": 64,
    "machine": HERE.machine,
    "executable": "",
    "missing": [],
}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a script stands in for the runtime")


class Checkout:
    """A checkout whose locked runtime is a script, and a server that has it."""

    def __init__(self, root: Path, server: BadServer, program: str) -> None:
        """Make it below `root`."""
        self.project = Miniature.make(root / "project").project
        self.server = server
        self.said = io.StringIO()
        target = TARGETS[HERE.target]
        self.spec = write_release(root / "release", target, SOURCE, program=program.encode())
        write_lock(self.project.runtime_lock, {target.name: self.spec})
        self.archive = root / "release" / self.spec.artifact.name

    def publish(self, *script: object, forever: object = None) -> None:
        """Put the archive where the release has it."""
        path = f"{self.spec.tag}/{self.spec.artifact.name}"
        self.server.add(path, self.archive.read_bytes(), *script, forever=forever)  # type: ignore[arg-type]

    def standalone(self, *, is_offline: bool = False, mirror: str | None = None) -> Standalone:
        """Return what fetches it."""
        return Standalone(
            project=self.project,
            store=self.project.store,
            mirror=self.server.root if mirror is None else mirror,
            is_offline=is_offline,
            environ={"PIP_CONFIG_FILE": os.devnull},
            console=Console(self.said),
            patience=Patience(tries=2, unheard_tries=1, first_wait_s=0.0),
        )

    @property
    def place(self) -> Path:
        """Where it is unpacked."""
        return self.project.out / "bootstrap" / self.spec.artifact.digest.sha256[:16]


def script(**facts: object) -> str:
    return f"#!/bin/sh\necho '{json.dumps({**FACTS, **facts})}'\n"


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as server:
        yield server


@pytest.fixture
def checkout(tmp_path: Path, server: BadServer) -> Checkout:
    return Checkout(tmp_path, server, script())


def test_it_is_fetched_into_the_builders_store_and_unpacked_once(checkout: Checkout) -> None:
    checkout.publish(cut_at(100))
    program = checkout.standalone().program(HERE)
    assert program == checkout.place / "bin/python3.11"
    assert (checkout.place / "lib/python3.11/ensurepip/__init__.py").is_file()
    assert Store(checkout.project.store).verified(checkout.spec.artifact.digest).is_file()
    assert [path.name for path in checkout.place.parent.iterdir()] == [checkout.place.name]
    assert "fetching CPython 3.11.17, which runs the builder (once)" in checkout.said.getvalue()
    seen = len(checkout.server.seen)
    assert checkout.standalone(is_offline=True).program(HERE) == program
    assert len(checkout.server.seen) == seen == 2


def test_what_the_store_has_is_not_fetched(checkout: Checkout) -> None:
    Store(checkout.project.store).add_bytes(checkout.archive.read_bytes())
    assert checkout.standalone(is_offline=True).program(HERE).is_file()


def test_a_damaged_copy_in_the_store_is_fetched_again(checkout: Checkout) -> None:
    store = Store(checkout.project.store)
    store.add_bytes(checkout.archive.read_bytes())
    entry = store.path(checkout.spec.artifact.digest)
    assert entry is not None
    entry.chmod(0o644)
    entry.write_bytes(b"other")
    checkout.publish()
    checkout.standalone().program(HERE)
    assert store.verified(checkout.spec.artifact.digest) == entry
    assert "its stored copy was damaged" in checkout.said.getvalue()


def test_offline_it_is_named_with_the_store_that_lacks_it(checkout: Checkout) -> None:
    checkout.publish()
    with pytest.raises(UnreachableError) as caught:
        checkout.standalone(is_offline=True).program(HERE)
    assert str(checkout.project.store) in caught.value.why
    assert checkout.server.seen == []
    assert not checkout.place.exists()


def test_without_a_mirror_the_recipes_address_is_asked(checkout: Checkout) -> None:
    checkout.publish()
    recipe = checkout.project.recipe
    recipe.write_text(recipe.read_text().replace(SOURCE, checkout.server.root))
    assert checkout.standalone(mirror="").program(HERE).is_file()


def test_wrong_bytes_exit_4_and_nothing_is_unpacked(checkout: Checkout) -> None:
    checkout.publish(forever=wrong)
    with pytest.raises(IntegrityError):
        checkout.standalone().program(HERE)
    assert not checkout.place.exists()


def test_a_copy_that_lost_its_program_is_unpacked_again(checkout: Checkout) -> None:
    checkout.publish()
    program = checkout.standalone().program(HERE)
    program.unlink()
    (checkout.place / "left").touch()
    assert checkout.standalone(is_offline=True).program(HERE).is_file()
    assert not (checkout.place / "left").exists()


def test_a_copy_that_another_run_made_meanwhile_stays(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.publish()
    mark = checkout.place / "made by another"

    def unpack(archive: Path, stage: Path) -> None:
        del archive
        (stage / "bin").mkdir()
        (checkout.place / "bin").mkdir(parents=True)
        program = checkout.place / "bin/python3.11"
        program.write_text(script())
        program.chmod(0o755)
        mark.touch()

    monkeypatch.setattr("bundler.bootstrap.standalone.unpack", unpack)
    checkout.standalone().program(HERE)
    assert mark.exists()
    assert [path.name for path in checkout.place.parent.iterdir()] == [checkout.place.name]


def test_what_a_killed_run_left_is_swept(checkout: Checkout) -> None:
    checkout.publish()
    left = checkout.place.parent / f".sidecar-stage-{checkout.place.name}-0123456789ab"
    (left / "bin").mkdir(parents=True)
    checkout.standalone().program(HERE)
    assert not left.exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("#!/bin/sh\nexit 1\n", "it does not start"),
        (script(missing=["ensurepip"]), "without ensurepip"),
        (script(version=[3, 12, 0]), "not CPython 3.11"),
    ],
)
def test_one_that_does_not_run_here_exits_10(
    tmp_path: Path, server: BadServer, program: str, words: str
) -> None:
    checkout = Checkout(tmp_path, server, program)
    checkout.publish()
    with pytest.raises(UnsupportedError, match=r"the locked CPython 3\.11\.17") as caught:
        checkout.standalone().program(HERE)
    assert words in caught.value.why
    assert caught.value.exit_code == 10


def test_a_target_that_has_no_runtime_is_named(checkout: Checkout) -> None:
    with pytest.raises(UnsupportedError, match="no runtime is locked for elsewhere"):
        checkout.standalone().program(replace(HERE, target="elsewhere"))
