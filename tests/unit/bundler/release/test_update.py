"""What an update moves, in miniature: one line of the service, another model, nothing at all."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bundler import archive
from bundler.artifacts.store import Store
from bundler.console import Progress
from bundler.errors import VerificationError
from bundler.images.layers import Layers
from bundler.release import update
from sidecar.manifest import MANIFEST, MANIFESTS
from tests.support.miniature import EPOCH, Miniature
from tests.support.released import Released

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.release.update import Held, Moved

MOST = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Bundles that differ in one thing each."""

    root: Path
    miniature: Miniature

    def held(self, name: str) -> Held:
        """Return one of them."""
        return update.Held.read(self.root / name)

    def image(self, before: str, after: str) -> dict[str, Moved]:
        """Return what moves between two of them as images."""
        with Layers(Store(self.miniature.project.store), Progress()) as layers:
            moved = update.image_update(self.held(before), self.held(after), layers, epoch=EPOCH)
        return {one.name: one for one in moved}

    def bundle(self, before: str, after: str) -> dict[str, Moved]:
        """Return what moves between two of them as bundles."""
        moved = update.bundle_update(self.held(before), self.held(after))
        return {one.name: one for one in moved}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    root = tmp_path_factory.mktemp("versions")
    miniature = Miniature.make(root / "project")
    miniature.assemble(root / "first")
    miniature.assemble(root / "model", models=("tiny",))
    miniature.write_service("sidecar/cli.py", "def main() -> int:\n    return 1\n")
    miniature.assemble(root / "service")
    return Versions(root=root, miniature=miniature)


def moving(moved: dict[str, Moved]) -> set[str]:
    return {name for name, one in moved.items() if one.compressed}


def test_a_line_of_the_service_moves_the_service_and_papers_alone(versions: Versions) -> None:
    moved = versions.bundle("first", "service")
    assert moving(moved) == {"service", "papers"}
    # The source, and its bytecode.
    assert moved["service"].files == 2
    assert sum(one.compressed for one in moved.values()) < MOST


def test_a_line_of_the_service_moves_two_layers(versions: Versions) -> None:
    moved = versions.image("first", "service")
    assert list(moved) == ["python", "heavy", "packages", "models", "service", "top"]
    assert moving(moved) == {"service", "top"}
    assert sum(one.compressed for one in moved.values()) < MOST


def test_another_model_moves_nothing_heavy(versions: Versions) -> None:
    for moved in (versions.bundle("model", "first"), versions.image("model", "first")):
        assert moving(moved) - {"papers", "top"} == {"models"}
        assert moved["heavy"].compressed == 0


def test_a_model_that_goes_moves_no_weights(versions: Versions) -> None:
    moved = versions.bundle("first", "model")
    assert moved["models"].files == 0
    # Its list is another one, and shorter.
    assert 0 < moved["models"].size < 2000


def test_the_same_bundle_moves_nothing(versions: Versions) -> None:
    assert moving(versions.bundle("first", "first")) == set()
    assert moving(versions.image("first", "first")) == set()


def test_layers_that_do_not_move_are_not_made(versions: Versions, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with Layers(store, Progress()) as layers:
        update.image_update(versions.held("first"), versions.held("service"), layers, epoch=EPOCH)
    assert len([path for path in tmp_path.glob("sha256/**/*") if path.is_file()]) == 2


def test_archives_say_the_same_as_folders(versions: Versions, tmp_path: Path) -> None:
    archive.write_zip(versions.root / "first", tmp_path / "first.zip", epoch=EPOCH)
    archive.write_tar_zst(versions.root / "service", tmp_path / "service.tar.zst", epoch=EPOCH)
    moved = update.bundle_update(
        update.Held.read(tmp_path / "first.zip"), update.Held.read(tmp_path / "service.tar.zst")
    )
    assert {one.name: one for one in moved} == versions.bundle("first", "service")


def test_images_are_compared_by_the_layers_they_name(tmp_path: Path) -> None:
    released = Released.make(tmp_path)
    released.miniature.write_service("sidecar/cli.py", "def main() -> int:\n    return 1\n")
    before = shutil.copyfile(released.path(".oci.tar"), tmp_path / "before.oci.tar")
    released.miniature.assemble(released.bundle)
    shutil.rmtree(released.folder)
    released.write(released.folder)
    moved = update.archive_update(before, released.path(".oci.tar"))
    assert {one.name for one in moved if one.compressed} == {"service", "top"}
    assert "base" in {one.name for one in moved}
    assert not any(one.compressed for one in update.archive_update(before, before))


@pytest.mark.parametrize("name", ["b.zip", "b.tar.zst", "b.oci.tar"])
def test_what_is_no_bundle_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    path = tmp_path / name
    read = (
        update.archive_update if update.is_image(path) else (lambda old, _: update.Held.read(old))
    )
    with pytest.raises(VerificationError, match=name):
        read(path, path)
    with pytest.raises(VerificationError, match="is not a bundle"):
        update.Held.read(tmp_path)


def test_archives_that_are_damaged_within_are_named(versions: Versions, tmp_path: Path) -> None:
    packed, cut = tmp_path / "b.zip", tmp_path / "b.tar.zst"
    archive.write_zip(versions.root / "first", packed, epoch=EPOCH)
    with zipfile.ZipFile(packed) as opened:
        start = opened.getinfo(MANIFEST).header_offset
    data = bytearray(packed.read_bytes())
    data[start + 60 : start + 90] = bytes(30)
    packed.write_bytes(data)
    archive.write_tar_zst(versions.root / "first", cut, epoch=EPOCH)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    for path in (packed, cut):
        with pytest.raises(VerificationError, match=f"{path.name} cannot be read"):
            update.Held.read(path)


def test_lists_without_end_are_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "MOST_PAPER_BYTES", 100)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as packed:
        packed.writestr(MANIFEST, b" " * 60)
        packed.writestr(f"{MANIFESTS}/service.json", b" " * 60)
    with pytest.raises(VerificationError, match="cannot be read") as caught:
        update.Held.read(tmp_path / "b.zip")
    assert "more than 100 bytes" in caught.value.why


def test_people_read_a_line_for_each_part_and_the_sum(versions: Versions) -> None:
    shown = list(update.lines("bundle", list(versions.bundle("first", "service").values())))
    assert shown[1] == "bundle  heavy     0 compressed"
    assert shown[4].startswith("bundle  service   2 files, ")
    assert shown[-1].startswith("bundle  all       ")


def test_as_data_there_are_totals(versions: Versions) -> None:
    moved = tuple(versions.bundle("first", "service").values())
    document = update.document(moved)
    assert document["compressed"] == sum(one.compressed for one in moved)
    assert document["parts"][0] == {
        "name": "python",
        "files": 0,
        "size": 0,
        "compressed": 0,
    }
