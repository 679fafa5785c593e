from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.store import Store
from bundler.console import Progress
from bundler.digests import Digest
from bundler.errors import VerificationError
from bundler.images.layers import PLACE, Foundation, Layers, Part
from sidecar.manifest import FileEntry

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = 1_700_000_000
LONG = "a" * 120 + "/" + "é" * 60
FILES = {"bin/run": b"program", "bin/data/one.txt": b"1" * 700, f"{LONG}.txt": b"", "z": b"last"}


@pytest.fixture
def part(tmp_path: Path) -> Part:
    root = tmp_path / "bundle"
    entries = []
    for path, data in FILES.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        entries.append(
            FileEntry(
                path=path,
                mode=0o755 if path == "bin/run" else 0o644,
                size=len(data),
                sha256=Digest.of_bytes(data).sha256,
            )
        )
    (root / "stray").write_bytes(b"unlisted")
    return Part(name="some", identity="1", root=root, entries=tuple(entries), epoch=EPOCH)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def members(part: Part) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.pieces()))) as tar:
        return {member.name: member for member in tar}


def test_a_layer_holds_what_is_listed_below_its_place(part: Part) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.pieces()))) as tar:
        found = {one.name: tar.extractfile(one) for one in tar if one.isfile()}
        contents = {name: stream.read() for name, stream in found.items() if stream}
    assert contents == {f"{PLACE}/{path}": data for path, data in FILES.items()}


def test_every_folder_stands_before_what_is_in_it(part: Part) -> None:
    seen: set[str] = set()
    for name, member in members(part).items():
        parent = name.rpartition("/")[0]
        assert not parent or parent in seen
        if member.isdir():
            seen.add(name)
    assert {"opt", "opt/sidecar", "opt/sidecar/bin", "opt/sidecar/bin/data"} <= seen


def test_nothing_of_this_machine_is_in_a_header(part: Part) -> None:
    for name, member in members(part).items():
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mtime == EPOCH
        is_open = member.isdir() or name.endswith("/run")
        assert member.mode == (0o755 if is_open else 0o644)


def test_modes_on_disk_do_not_matter_since_the_manifest_has_them(part: Part) -> None:
    before = b"".join(part.pieces())
    (part.root / "bin" / "run").chmod(0o600)
    (part.root / "z").chmod(0o777)
    assert b"".join(part.pieces()) == before


@pytest.mark.parametrize("data", [b"LAST", b"la", b"last and more", None])
def test_a_file_that_is_not_the_listed_one_is_found(part: Part, data: bytes | None) -> None:
    if data is None:
        (part.root / "z").unlink()
    else:
        (part.root / "z").write_bytes(data)
    with pytest.raises(VerificationError, match=r"^z "):
        b"".join(part.pieces())


def test_a_layer_is_known_by_both_its_digests(part: Part, store: Store) -> None:
    with Layers(store, Progress()) as layers:
        layer = layers.layer(part)
    packed = layer.path.read_bytes()
    assert layer.digest == Digest.of_bytes(packed)
    tar = gzip.decompress(packed)
    assert layer.diff_id == hashlib.sha256(tar).hexdigest()
    assert tar == b"".join(part.pieces())


def test_a_layer_is_made_once(part: Part, store: Store) -> None:
    with Layers(store, Progress()) as layers:
        first = layers.layer(part)
    (part.root / "z").unlink()
    with Layers(store, Progress()) as layers:
        assert layers.layer(part) == first


def test_a_damaged_layer_is_made_again(part: Part, store: Store, tmp_path: Path) -> None:
    with Layers(store, Progress()) as layers:
        first = layers.layer(part)
    first.path.chmod(0o644)
    first.path.write_bytes(b"damaged")
    with Layers(Store(tmp_path / "store"), Progress()) as layers:
        again = layers.layer(part)
    assert again == first
    assert Digest.of_file(again.path) == first.digest


@pytest.mark.parametrize("change", [{"identity": "2"}, {"epoch": 5}, {"name": "other"}])
def test_whatever_decides_a_layer_is_in_its_key(part: Part, change: dict[str, object]) -> None:
    fields = {"name": "some", "identity": "1", "root": part.root, "epoch": EPOCH, **change}
    assert Part(entries=(), **fields).key != part.key  # type: ignore[arg-type]


def test_a_failed_layer_leaves_nothing_in_the_store(part: Part, store: Store) -> None:
    (part.root / "z").write_bytes(b"")
    with Layers(store, Progress()) as layers, pytest.raises(VerificationError):
        layers.layer(part)
    assert not list(store.root.glob("partial/*"))
    assert not list(store.root.glob("sha256/*/*"))


def test_a_base_that_changed_meanwhile_is_found(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "base.tar"
    path.write_bytes(b"root file system")
    foundation = Foundation(path=path, digest=Digest.of_file(path))
    path.write_bytes(b"another one")
    with Layers(store, Progress()) as layers, pytest.raises(VerificationError, match=r"base\.tar"):
        layers.layer(foundation)


def test_what_the_store_keeps_of_a_layer_is_small_and_readable(part: Part, store: Store) -> None:
    with Layers(store, Progress()) as layers:
        layer = layers.layer(part)
    (path,) = store.root.glob("derived/*/*")
    record = json.loads(path.read_bytes())
    assert part.key in record["key"]
    assert record["facts"]["diff_id"] == layer.diff_id
    assert path.stat().st_size < 600
