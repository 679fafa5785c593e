"""What is in the image: the bundle, byte for byte, on a base with next to nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from bundler.artifacts.store import Store
from bundler.console import Progress
from bundler.images.image import Image, compose, write
from bundler.images.layers import Layers
from sidecar.manifest import MANIFEST, MANIFESTS, read, read_entries
from tests.integration.conftest import PROJECT, Loaded
from tests.support.containers import PLACE, Tree, tree_of
from tests.support.miniature import EPOCH, Miniature
from tests.support.tinybase import tiny_base

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SET_ID = 0o6000
SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox", "csh", "tcsh"}
MANAGERS = {"apt", "apt-get", "dpkg", "apk", "rpm", "dnf", "yum", "pip", "pip3", "pip3.11", "conda"}
CLIENTS = ("docker", "/usr/bin/docker", "/usr/local/bin/docker")


@pytest.fixture(scope="module")
def tree(engine: Any, loaded: Loaded) -> Iterator[Tree]:
    """Return the whole file system of a container that never ran."""
    container = engine.containers.create(loaded.name)
    try:
        yield tree_of(container)
    finally:
        container.remove()


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    made = Miniature.make(tmp_path_factory.mktemp("image") / "project")
    made.assemble(made.project.output("linux-x64"))
    tiny_base(made.project.out / "base.tar", more=("libstdc++.so.6", "libgcc_s.so.1"))
    return made


@pytest.fixture(scope="module")
def archive(miniature: Miniature) -> tuple[Path, Image]:
    """Return the miniature as an image, and its archive."""
    out = miniature.project.out
    with Layers(Store(miniature.project.store), Progress()) as layers:
        image = compose(out / "linux-x64", layers, base=out / "base.tar", epoch=EPOCH)
    write([image], out / "i.tar", name=f"sidecar-miniature:{os.getpid()}", epoch=EPOCH)
    return out / "i.tar", image


def test_the_engine_knows_the_image_by_the_digest_we_gave_it(engine: Any, loaded: Loaded) -> None:
    found = engine.images.get(loaded.name)
    assert found.id == f"sha256:{loaded.image.config.digest.sha256}"
    layers = engine.api.inspect_image(loaded.name)["RootFS"]["Layers"]
    assert layers == [f"sha256:{layer.diff_id}" for layer in loaded.image.layers]


def test_the_image_holds_the_bundle_file_by_file_and_nothing_more(tree: Tree, bundle: Path) -> None:
    manifest = read(bundle)
    entries = [*manifest.documents]
    for component in manifest.components:
        entries += read_entries(bundle, component)
    wanted = {one.path: (one.sha256, one.size, one.mode, (0, 0)) for one in entries}
    found = tree.below(PLACE)
    beside = {path for path in found if path == MANIFEST or path.startswith(f"{MANIFESTS}/")}
    assert len(beside) == 1 + len(manifest.components)
    assert {path: one for path, one in found.items() if path not in beside} == wanted
    assert not [path for path in tree.links if path.startswith(f"{PLACE}/")]


def test_no_file_lends_its_owners_rights(tree: Tree) -> None:
    assert [path for path, one in tree.files.items() if one[2] & SET_ID] == []


@pytest.mark.parametrize("names", [SHELLS, MANAGERS], ids=["shells", "package managers"])
def test_there_is_no_program_to_work_with(tree: Tree, names: set[str]) -> None:
    paths = [*(path for path, one in tree.files.items() if one[2] & 0o111), *tree.links]
    assert [path for path in paths if path.rpartition("/")[2] in names] == []


def test_only_the_interpreter_and_its_libraries_can_be_run(tree: Tree) -> None:
    folders = ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local")
    found = [path for folder in folders for path in tree.below(folder)]
    assert found == []


def test_the_dockerfile_makes_the_same_tree(
    engine: Any, miniature: Miniature, archive: tuple[Path, Image]
) -> None:
    mark = f"{os.getpid()}"
    names = {part: f"sidecar-{part}:{mark}" for part in ("tree", "base", "dockerfile", "miniature")}
    out = miniature.project.out
    containers = []
    try:
        subprocess.run(["tar", "-C", out / "linux-x64", "-cf", out / "tree.tar", "."], check=True)
        for part in ("tree", "base"):
            command = ["docker", "import", str(out / f"{part}.tar"), names[part]]
            subprocess.run(command, check=True, capture_output=True)
        build_with_docker(names)
        with archive[0].open("rb") as stream:
            engine.images.load(stream)
        for part in ("dockerfile", "miniature"):
            container = engine.containers.create(names[part])
            containers.append(container)
        trees = [tree_of(container) for container in containers]
        assert trees[0].below(PLACE) == trees[1].below(PLACE) != {}
        configs = [
            engine.api.inspect_image(names[part])["Config"] for part in ("dockerfile", "miniature")
        ]
        for key in (
            "Entrypoint",
            "User",
            "WorkingDir",
            "ExposedPorts",
            "Healthcheck",
            "StopSignal",
        ):
            assert configs[0][key] == configs[1][key]
    finally:
        for container in containers:
            container.remove()
        for name in names.values():
            if engine.images.list(name):
                engine.images.remove(name, force=True)


def build_with_docker(names: dict[str, str]) -> None:
    """Build the Dockerfile with the first client that has BuildKit, which skips unused stages."""
    said = ""
    for client in CLIENTS:
        if not shutil.which(client):
            continue
        command = [client, "build", "--quiet", "--network", "none", "--tag", names["dockerfile"]]
        for part in ("tree", "base"):
            command += ["--build-arg", f"{part.upper()}={names[part]}"]
        done = subprocess.run(
            [*command, PROJECT.root],
            check=False,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
        )
        if done.returncode == 0:
            return
        said += done.stderr
        assert "buildx" in done.stderr, said
    pytest.skip(f"no docker client here has BuildKit: {said.strip()[-200:]}")


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_another_tool_reads_and_copies_the_archive(
    archive: tuple[Path, Image], tmp_path: Path
) -> None:
    path, image = archive
    name = f"oci-archive:{path}"
    done = subprocess.run(["skopeo", "inspect", name], check=True, capture_output=True)
    seen = json.loads(done.stdout)
    assert seen["Digest"] == f"sha256:{image.manifest.digest.sha256}"
    assert seen["Labels"]["sidecar.plan"] == image.bundle.plan
    copy = ["skopeo", "--insecure-policy", "copy", "--preserve-digests"]
    for source, place in ((name, "oci"), (f"docker-archive:{path}", "dir")):
        keep = copy if place == "oci" else copy[:-1]
        command = [*keep, source, f"{place}:{tmp_path / place}"]
        subprocess.run(command, check=True, capture_output=True)
    index = json.loads((tmp_path / "oci" / "index.json").read_bytes())
    assert index["manifests"][0]["digest"] == seen["Digest"]
