from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from bundler.console import Progress, Unit
from bundler.errors import VerificationError
from bundler.verify import verify
from sidecar.manifest import MANIFEST, MANIFESTS, read, read_entries
from tests.support.miniature import Miniature
from tests.support.modeless import forget_modes

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "python/bin/python3.11"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    Miniature.make(root / "project").assemble(root / "bundle")
    return root / "bundle"


@pytest.fixture
def bundle(tmp_path: Path, original: Path) -> Path:
    shutil.copytree(original, tmp_path / "bundle")
    return tmp_path / "bundle"


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def refusal(bundle: Path) -> str:
    with pytest.raises(VerificationError) as caught:
        verify(bundle, Progress())
    assert caught.value.exit_code == 8
    return caught.value.render()


def listed(bundle: Path) -> list[str]:
    manifest = read(bundle)
    entries = [entry for c in manifest.components for entry in read_entries(bundle, c)]
    return [entry.path for entry in (*entries, *manifest.documents) if entry.size]


def test_a_whole_bundle_verifies_and_every_byte_is_counted(bundle: Path) -> None:
    seen = verify(bundle, Progress())
    files = [path for path in bundle.rglob("*") if path.is_file()]
    lists = [bundle / MANIFEST, *(bundle / MANIFESTS).iterdir()]
    assert seen.files == len(files) - len(lists)
    total = sum(path.stat().st_size for path in files)
    assert seen.size == total - sum(path.stat().st_size for path in lists)


def test_twenty_flipped_bits_are_named_by_their_twenty_paths(bundle: Path) -> None:
    chance = random.Random(20)
    chosen = chance.sample(listed(bundle), 20)
    for path in chosen:
        flip(bundle / path, chance.randrange((bundle / path).stat().st_size * 8))
    said = refusal(bundle)
    assert "in 20 places" in said
    for path in chosen:
        assert f"changed: {path} (sha256 " in said


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "embedding_sidecar/__main__.py").unlink()
    assert "missing: embedding_sidecar/__main__.py" in refusal(bundle)


def test_an_extra_file_and_an_empty_folder_are_named(bundle: Path) -> None:
    (bundle / "python/log.txt").write_bytes(b"")
    (bundle / "models/empty").mkdir()
    said = refusal(bundle)
    assert "extra: python/log.txt" in said
    assert "extra: models/empty (empty folder)" in said


def test_a_longer_file_is_named_with_both_sizes(bundle: Path) -> None:
    with (bundle / "NOTICES.txt").open("ab") as stream:
        stream.write(b"!")
    size = (bundle / "NOTICES.txt").stat().st_size
    assert f"changed: NOTICES.txt ({size} bytes instead of {size - 1})" in refusal(bundle)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
def test_a_lost_and_a_gained_executable_bit_are_named(bundle: Path) -> None:
    (bundle / PROGRAM).chmod(0o644)
    (bundle / "NOTICES.txt").chmod(0o755)
    said = refusal(bundle)
    assert f"changed: {PROGRAM} (it is not executable)" in said
    assert "changed: NOTICES.txt (it is executable)" in said


@pytest.mark.parametrize("bits", [0o644, 0o755])
def test_on_a_disk_without_modes_none_is_compared(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    forget_modes(bits, monkeypatch.setattr)
    assert verify(bundle, Progress()).files
    # Where nothing can be written beside the bundle, one mode on every file says as much.
    monkeypatch.setattr("bundler.verify.keeps_modes", lambda _: None)
    assert verify(bundle, Progress()).files


def test_modes_count_where_nothing_can_be_written_beside(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.verify.keeps_modes", lambda _: None)
    (bundle / "NOTICES.txt").chmod(0o755)
    assert "changed: NOTICES.txt (it is executable)" in refusal(bundle)


def test_a_link_is_refused_even_to_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    (bundle / "NOTICES.txt").rename(tmp_path / "elsewhere")
    (bundle / "NOTICES.txt").symlink_to(tmp_path / "elsewhere")
    assert "changed: NOTICES.txt (not a regular file)" in refusal(bundle)


def test_a_linked_folder_is_named(bundle: Path, tmp_path: Path) -> None:
    (bundle / "more").symlink_to(tmp_path)
    assert "extra: more" in refusal(bundle)


@pytest.mark.parametrize("name", [f"{MANIFESTS}/heavy.json", MANIFEST])
def test_a_damaged_list_is_refused_before_it_is_believed(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes()[:-3])
    assert "is not a bundle that can be verified" in refusal(bundle)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    assert "manifest.json cannot be read" in refusal(tmp_path)


def test_every_listed_byte_is_reported_as_progress(bundle: Path) -> None:
    class Counter(Progress):
        total: int | None = None
        count = 0
        ended = False

        def start(self, name: str, total: int | None, *, unit: Unit = "bytes") -> None:  # noqa: ARG002
            self.total = total

        def advance(self, name: str, amount: int) -> None:  # noqa: ARG002
            self.count += amount

        def finish(self, name: str) -> None:  # noqa: ARG002
            self.ended = True

    counter = Counter()
    seen = verify(bundle, counter)
    assert counter.count == counter.total == seen.size
    assert counter.ended
