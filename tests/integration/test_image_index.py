"""One image for two machines: the lean bundles of both kinds of Linux, in one archive."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from bundler.project import Project
from bundler.recipe import read_recipe
from sidecar.manifest import read
from tests.integration.conftest import base_for, started
from tests.support.containers import ask_inside, wait_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROJECT = Project.here()
NAME = f"sidecar-index:{os.getpid()}"
OWN = {"linux-x64": "amd64", "linux-arm64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class Index:
    """What `image` said and wrote."""

    archive: Path
    digest: str


def image(*arguments: object) -> Index:
    """Run the command on both bundles; return the archive and the digest it printed."""
    targets = ("--target", "linux-x64", "--target", "linux-arm64", "--profile", "lean")
    done = subprocess.run(
        [sys.executable, PROJECT.root / "build", "image", *targets, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        # Nothing is loaded where no program is found.
        env={**os.environ, "PATH": "/nonexistent"},
    )
    assert done.returncode == 0, done.stderr
    (digest,) = re.findall(r"^digest (sha256:\w+)$", done.stderr, re.MULTILINE)
    return Index(archive=PROJECT.root / done.stdout.strip(), digest=digest)


@pytest.fixture(scope="module")
def index(lean: Path, arm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    if {lean, arm} != {PROJECT.output(f"{name}-lean") for name in OWN}:
        pytest.skip("the bundles are not those that the command takes by their targets")
    for name in OWN.values():
        # Made by `ci/base arm64` and the like.
        base_for(name)
    archive = tmp_path_factory.mktemp("index") / "index.oci.tar"
    made = image("--output", archive, "--tag", NAME)
    yield made
    archive.unlink()


@pytest.mark.parametrize("architecture", OWN.values())
def test_a_base_has_every_library_that_a_bundle_may_want(architecture: str) -> None:
    with tarfile.open(base_for(architecture)) as tar:
        names = {member.name.rpartition("/")[2] for member in tar}
    audit = read_recipe(PROJECT.recipe).sections["audit"]["linux"]
    assert {*audit["required"], "libc.so.6"} <= names


def test_the_index_names_both_machines_and_the_archive_verifies(index: Index) -> None:
    with tarfile.open(index.archive) as tar:
        (top,) = json.load(tar.extractfile("index.json"))["manifests"]  # type: ignore[arg-type]
        assert top["digest"] == index.digest
        blob = f"blobs/sha256/{top['digest'].removeprefix('sha256:')}"
        machines = json.load(tar.extractfile(blob))["manifests"]  # type: ignore[arg-type]
    assert [one["platform"]["architecture"] for one in machines] == ["amd64", "arm64"]
    done = subprocess.run(
        [sys.executable, PROJECT.root / "build", "verify", index.archive],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_engine_loads_it_and_runs_the_image_of_this_machine(
    engine: Any, index: Index, lean: Path
) -> None:
    with index.archive.open("rb") as stream:
        loaded = engine.images.load(stream)
    own = OWN[read(lean).target]
    try:
        (mine,) = (one for one in loaded if one.attrs["Architecture"] == own)
        container = started(engine, mine.id, network_mode="none")
        try:
            wait_ready(container)
            status, answer = ask_inside(container, "/embed", {"texts": ["hello"]})
        finally:
            container.remove(force=True)
        assert (status, len(answer["vectors"])) == (200, 1)
    finally:
        for one in loaded:
            engine.images.remove(one.id, force=True)


@pytest.mark.full
def test_layers_made_again_give_the_same_index(index: Index, tmp_path: Path) -> None:
    again = image("--output", tmp_path / "i.tar", "--tag", NAME, "--store", tmp_path / "store")
    assert again.digest == index.digest
    assert again.archive.read_bytes() == index.archive.read_bytes()
