from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from bundler.console import Progress, Unit
from bundler.errors import VerificationError
from bundler.verify import verify
from sidecar.manifest import MANIFEST, MANIFESTS, FileEntry, encode_entries, read, read_entries
from tests.support.miniature import Miniature
from tests.support.modeless import forget_modes

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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
@pytest.mark.parametrize(
    ("path", "mode", "said"),
    [
        ("NOTICES.txt", 0o666, "mode 0666 instead of 0644"),
        ("NOTICES.txt", 0o000, "mode 0000 instead of 0644"),
        ("NOTICES.txt", 0o600, "mode 0600 instead of 0644"),
        ("NOTICES.txt", 0o4644, "mode 4644 instead of 0644"),
        (PROGRAM, 0o777, "mode 0777 instead of 0755"),
        (MANIFEST, 0o646, "mode 0646 instead of 0644"),
        (f"{MANIFESTS}/heavy.json", 0o664, "mode 0664 instead of 0644"),
        ("python", 0o777, "folder of mode 0777 instead of 0755"),
        ("models", 0o1777, "folder of mode 1777 instead of 0755"),
    ],
)
def test_a_mode_that_is_not_the_listed_one_is_named(
    bundle: Path, path: str, mode: int, said: str
) -> None:
    if mode == 0 and os.geteuid() != 0:
        pytest.skip("only root reads such a file")
    (bundle / path).chmod(mode)
    assert refusal(bundle).count("\n    ") == 0
    assert f"changed: {path} ({said})" in refusal(bundle)


def test_a_bundle_others_may_write_into_is_named(bundle: Path) -> None:
    bundle.chmod(0o777)
    assert "changed: . (folder of mode 0777 instead of 0755)" in refusal(bundle)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o222, 0o277])
def test_what_a_umask_takes_from_every_mode_is_no_difference(bundle: Path, umask: int) -> None:
    for path in (bundle, *bundle.rglob("*")):
        path.chmod(path.stat().st_mode & ~umask)
    assert verify(bundle, Progress()).files
    (bundle / "NOTICES.txt").chmod(0o444 & ~umask | 0o040)
    (bundle / PROGRAM).chmod(0o640)
    assert f"changed: {PROGRAM} (it is not executable)" in refusal(bundle)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_bundle_verifies_whatever_the_umask_it_was_assembled_under(
    tmp_path: Path, umask: int
) -> None:
    miniature = Miniature.make(tmp_path / "project")
    before = os.umask(umask)
    try:
        miniature.assemble(tmp_path / "bundle")
    finally:
        os.umask(before)
    assert verify(tmp_path / "bundle", Progress()).files


def relist(bundle: Path, *more: tuple[str, bytes]) -> None:
    """Add files to the list of a component, and make its digest true."""
    path = bundle / MANIFESTS / "service.json"
    service = next(c for c in read(bundle).components if c.name == "service")
    entries = [
        FileEntry(path=name, mode=0o644, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in more
    ]
    path.write_bytes(encode_entries([*read_entries(bundle, service), *entries]))
    text = (bundle / MANIFEST).read_text(encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle / MANIFEST).write_text(text.replace(service.digest, digest), encoding="utf-8")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("more/a.txt", "more/A.txt"), "are one path on file systems that ignore case"),
        (("More/a", "more/b"), "are one path on file systems that ignore case"),
        (("more/\u00e9", "more/e\u0301"), "are one path on file systems that ignore case"),
        (("more/con.txt",), "Windows reserves the name"),
        (("more/a?",), "Windows cannot hold a file"),
        (("more/a\n",), "has a backslash or a control character"),
        (("more/\x1b[2J",), "has a backslash or a control character"),
        (("more/" * 120 + "a",), "its path is too deep"),
    ],
)
def test_listed_names_that_a_bundle_may_not_have_are_named(
    bundle: Path, names: tuple[str, ...], said: str
) -> None:
    relist(bundle, *((name, b"data") for name in names))
    for name in names:
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes(b"data")
    assert said in refusal(bundle)
    assert "in 1 places" in refusal(bundle)


@pytest.mark.parametrize("name", ["NOTICES.txt", "embedding_sidecar/__main__.py", MANIFEST])
def test_what_is_listed_twice_is_named(bundle: Path, name: str) -> None:
    relist(bundle, (name, (bundle / name).read_bytes()))
    assert f"extra: {name} (in {MANIFEST}: {name!r} is there twice)" in refusal(bundle)


def test_a_manifest_that_lists_nothing_verifies_nothing(bundle: Path) -> None:
    document = json.loads((bundle / MANIFEST).read_bytes())
    (bundle / MANIFEST).write_text(json.dumps({**document, "components": []}), encoding="utf-8")
    assert "lists no component" in refusal(bundle)


@pytest.mark.parametrize("place", ["more", "NOTICES.txt", MANIFEST, f"{MANIFESTS}/heavy.json"])
def test_a_pipe_is_named_and_not_waited_for(bundle: Path, place: str) -> None:
    (bundle / place).unlink(missing_ok=True)
    os.mkfifo(bundle / place)
    assert "not a regular file" in refusal(bundle)


def test_folders_without_end_are_named(bundle: Path) -> None:
    (bundle / Path(*["d"] * 400)).mkdir(parents=True)
    (bundle / "d").rename(bundle / "e")
    for _ in range(3):
        (bundle / Path(*["d"] * 400)).mkdir(parents=True)
        (bundle / "e").rename(bundle / Path(*["d"] * 400, "e"))
        (bundle / "d").rename(bundle / "e")
    assert "empty folder" in refusal(bundle)
    subprocess.run(["rm", "-rf", str(bundle / "e")], check=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"a\x1b[2J", r"a\x1b[2J"),
        (b"a\nchanged: all", r"a\nchanged: all"),
        (b"a\r", r"a\r"),
        ("a\u202eb\u200fc\u0085".encode(), r"a\u202eb\u200fc\x85"),
        (b"a\xff\x9b", r"a\udcff\udc9b"),
        ("\u00e9 \u6f22".encode(), "\u00e9 \u6f22"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_names_of_strangers_reach_the_terminal_escaped(
    bundle: Path, name: bytes, said: str, kind: str
) -> None:
    path = os.fsencode(bundle) + b"/" + name
    match kind:
        case "file":
            Path(os.fsdecode(path)).touch()
        case "link":
            Path(os.fsdecode(path)).symlink_to("elsewhere")
        case _:
            Path(os.fsdecode(path)).mkdir()
    found = refusal(bundle)
    assert f"extra: {said}" in found
    assert all(line.isprintable() for line in found.split("\n"))


def test_what_a_manifest_says_of_itself_is_escaped(bundle: Path) -> None:
    relist(bundle, ("more/\x1b]0;title\x07", b""))
    assert "\x1b" not in refusal(bundle)
    document = json.loads((bundle / MANIFEST).read_bytes())
    document["components"][0]["name"] = "a\x1b[2J\nb"
    (bundle / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    assert r"a\x1b[2J\nb.json cannot be read" in refusal(bundle)


def test_files_with_other_names_are_told(bundle: Path, tmp_path: Path) -> None:
    assert verify(bundle, Progress()).linked == 0
    (tmp_path / "outside").hardlink_to(bundle / "NOTICES.txt")
    assert verify(bundle, Progress()).linked == 1


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
