"""The verifier that ships beside the archives: what it says of whole and of damaged ones."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from bundler.release import verify_sidecar
from bundler.release.verify_sidecar import DIFFERENT, USAGE, main
from tests.support.released import STEM, Released

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUFFIXES = (".tar.zst", ".zip", ".oci.tar")
ZSTD = shutil.which("zstd")
MODULES = ("zstandard", "compression.zstd")
# It has a size of nothing, and its first byte is of no memory.
MEMORY = Path("/proc/self/mem")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return Released.make(tmp_path_factory.mktemp("released"))


@pytest.fixture
def folder(released: Released, tmp_path: Path) -> Path:
    """Return a copy of the release, to be spoilt."""
    return shutil.copytree(released.folder, tmp_path / "release")


class Verifier:
    """Runs the verifier and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.output = ""

    def __call__(self, *paths: Path) -> int:
        code = main([str(path) for path in paths])
        self.output = self.capsys.readouterr().out
        return code


@pytest.fixture
def verifier(capsys: pytest.CaptureFixture[str]) -> Verifier:
    return Verifier(capsys)


def rezip(path: Path, change: Callable[[str, bytes], bytes | None], **more: bytes) -> None:
    """Write the zip anew with other contents; None leaves a file out."""
    with zipfile.ZipFile(path) as old:
        entries = [(info, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(path, "w") as new:
        for info, data in entries:
            changed = change(info.filename, data)
            if changed is not None:
                new.writestr(info, changed)
        for name, data in more.items():
            new.writestr(name, data)


def without_sums(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()


def test_a_whole_release_passes(verifier: Verifier, released: Released) -> None:
    assert verifier(released.folder) == 0
    lines = verifier.output.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "ok: SHA256SUMS",
        *(f"ok: {STEM}{suffix}" for suffix in sorted(SUFFIXES)),
        "ok: sidecar-0.0.1.provenance.json",
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_passes_alone_and_beside_its_checksums(
    verifier: Verifier, folder: Path, suffix: str
) -> None:
    path = folder / f"{STEM}{suffix}"
    assert verifier(path) == 0
    without_sums(folder)
    assert verifier(path) == 0
    assert "0.0.1 linux-x64 safe, plan " in verifier.output


def test_a_folder_passes_and_says_what_it_is(verifier: Verifier, released: Released) -> None:
    assert verifier(released.bundle) == 0
    assert "ok: linux-x64, 5" in verifier.output


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_flipped_byte_is_noticed(verifier: Verifier, folder: Path, suffix: str) -> None:
    path = folder / f"{STEM}{suffix}"
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert verifier(path) == DIFFERENT, at
        assert f"changed: {path.name} (sha256 " in verifier.output
    path.write_bytes(whole[: len(whole) // 2])
    without_sums(folder)
    assert verifier(path) == DIFFERENT


def test_missing_extra_and_changed_files_are_named(verifier: Verifier, folder: Path) -> None:
    def change(name: str, data: bytes) -> bytes | None:
        if name == "embedding_sidecar/__main__.py":
            return None
        return data.replace(b"return 0", b"return 1")

    without_sums(folder)
    path = folder / f"{STEM}.zip"
    rezip(path, change, **{"python/bin/more": b"more"})
    assert verifier(path) == DIFFERENT
    assert "missing: embedding_sidecar/__main__.py\n" in verifier.output
    assert "extra: python/bin/more\n" in verifier.output
    assert "changed: embedding_sidecar/sidecar/cli.py (sha256 " in verifier.output


def test_a_list_that_the_manifest_does_not_name_is_a_difference(
    verifier: Verifier, folder: Path
) -> None:
    def change(name: str, data: bytes) -> bytes:
        return data.replace(b"0644", b"0755", 1) if name == "manifests/models.json" else data

    without_sums(folder)
    rezip(folder / f"{STEM}.zip", change)
    assert verifier(folder / f"{STEM}.zip") == DIFFERENT
    assert "changed: manifests/models.json (manifest.json names another" in verifier.output


@pytest.mark.parametrize(
    "name", ["../outside", "/absolute", "C:/drive", "a//b", "a\\b", "../folder/", "/folder/"]
)
def test_a_name_that_leads_out_is_a_difference(verifier: Verifier, folder: Path, name: str) -> None:
    without_sums(folder)
    rezip(folder / f"{STEM}.zip", lambda _, data: data, **{name: b""})
    assert verifier(folder / f"{STEM}.zip") == DIFFERENT
    assert "it leads out of the bundle" in verifier.output


def test_what_comes_twice_is_a_difference(verifier: Verifier, folder: Path) -> None:
    without_sums(folder)
    path = folder / f"{STEM}.zip"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as packed:
        packed.writestr("NOTICES.txt", b"another")
    assert verifier(path) == DIFFERENT
    assert "extra: NOTICES.txt (it is there twice)" in verifier.output


def test_links_are_differences(verifier: Verifier, released: Released, tmp_path: Path) -> None:
    copy = shutil.copytree(released.bundle, tmp_path / "bundle")
    (copy / "link").symlink_to("NOTICES.txt")
    assert verifier(copy) == DIFFERENT
    assert "extra: link (neither a file nor a folder)" in verifier.output


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such bit")
def test_a_program_that_cannot_be_run_is_a_difference(
    verifier: Verifier, released: Released, tmp_path: Path
) -> None:
    copy = shutil.copytree(released.bundle, tmp_path / "bundle")
    (copy / "python/bin/python3.11").chmod(0o644)
    (copy / "NOTICES.txt").chmod(0o755)
    assert verifier(copy) == DIFFERENT
    assert "changed: python/bin/python3.11 (not executable)" in verifier.output
    assert "changed: NOTICES.txt (executable)" in verifier.output


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
@pytest.mark.parametrize(
    ("path", "mode"), [("NOTICES.txt", 0o666), ("NOTICES.txt", 0o4644), ("python", 0o777)]
)
def test_what_everybody_may_change_is_a_difference(
    verifier: Verifier, released: Released, tmp_path: Path, path: str, mode: int
) -> None:
    copy = shutil.copytree(released.bundle, tmp_path / "bundle")
    (copy / path).chmod(mode)
    assert verifier(copy) == DIFFERENT
    assert f"mode {mode:04o}" in verifier.output


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nok: all", "a\u202eb", os.fsdecode(b"a\xff\x9b")])
def test_names_of_strangers_are_escaped(
    verifier: Verifier, released: Released, tmp_path: Path, name: str
) -> None:
    copy = shutil.copytree(released.bundle, tmp_path / "bundle")
    (copy / name).touch()
    assert verifier(copy) == DIFFERENT
    assert all(line.isprintable() for line in verifier.output.split("\n"))
    assert "extra: a\\" in verifier.output
    assert len(verifier.output.splitlines()) == 2


def test_pipes_and_folders_without_end_are_differences(
    verifier: Verifier, released: Released, tmp_path: Path
) -> None:
    copy = shutil.copytree(released.bundle, tmp_path / "bundle")
    os.mkfifo(copy / "NOTICES.txt.pipe")
    (copy / Path(*["d"] * 400)).mkdir(parents=True)
    (copy / "d").rename(copy / "e")
    for _ in range(3):
        (copy / Path(*["d"] * 400)).mkdir(parents=True)
        (copy / "e").rename(copy / Path(*["d"] * 400, "e"))
        (copy / "d").rename(copy / "e")
    assert verifier(copy) == DIFFERENT
    assert "RecursionError" not in verifier.output
    assert "extra: NOTICES.txt.pipe (neither a file nor a folder)" in verifier.output
    subprocess.run(["rm", "-rf", str(copy / "e")], check=True)


def test_a_pipe_in_a_release_is_not_waited_for(verifier: Verifier, folder: Path) -> None:
    path = folder / f"{STEM}.zip"
    path.unlink()
    os.mkfifo(path)
    assert verifier(folder) == DIFFERENT
    assert f"changed: {STEM}.zip (neither a file nor a link to one)" in verifier.output


@pytest.mark.skipif(not MEMORY.is_file(), reason="no file here that root cannot read")
def test_a_file_that_cannot_be_read_is_not_called_missing(verifier: Verifier, folder: Path) -> None:
    path = folder / f"{STEM}.zip"
    path.unlink()
    path.symlink_to(MEMORY)
    assert verifier(folder) == DIFFERENT
    assert f"changed: {STEM}.zip (it cannot be read: " in verifier.output
    assert "missing" not in verifier.output


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"a\0b", b"n" * 256, "\N{SNOWMAN}".encode() * 99], ids=range(4)
)
def test_a_list_of_checksums_that_is_none_exits_2(
    verifier: Verifier, folder: Path, name: bytes
) -> None:
    (folder / "SHA256SUMS").write_bytes(b"%s  %s\n" % (b"a" * 64, name))
    assert verifier(folder) == USAGE


def test_names_that_are_one_on_some_systems_are_a_difference(
    verifier: Verifier, folder: Path
) -> None:
    without_sums(folder)
    rezip(folder / f"{STEM}.zip", lambda _, data: data, **{"notices.TXT": b""})
    assert verifier(folder / f"{STEM}.zip") == DIFFERENT
    assert "'NOTICES.txt' are one name on some systems" in verifier.output


def test_a_manifest_that_lists_a_file_twice_or_nothing_is_a_difference(
    verifier: Verifier, folder: Path
) -> None:
    without_sums(folder)
    path = folder / f"{STEM}.zip"

    def altered(**changes: Any) -> Callable[[str, bytes], bytes]:
        def change(name: str, data: bytes) -> bytes:
            if name != "manifest.json":
                return data
            document = json.loads(data)
            return json.dumps({key: changes.get(key, document[key]) for key in document}).encode()

        return change

    with zipfile.ZipFile(path) as packed:
        documents = json.loads(packed.read("manifest.json"))["documents"]
    rezip(path, altered(documents=documents * 2))
    assert verifier(path) == DIFFERENT
    assert f"extra: {documents[0]['path']} (it is listed twice)" in verifier.output
    rezip(path, altered(components=[]))
    assert verifier(path) == DIFFERENT
    assert "missing: manifests (manifest.json lists no component)" in verifier.output


def test_an_archive_without_end_is_a_difference(
    verifier: Verifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_sidecar, "MOST_BYTES", 1000)
    assert verifier(folder / f"{STEM}.zip") == DIFFERENT
    assert "it holds more than 1000 bytes" in verifier.output


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return one header of a tar that promises `size` bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_of_many_megabytes_is_not_read_into_memory(
    verifier: Verifier, tmp_path: Path, kind: bytes
) -> None:
    data = header("x", 64 << 20, kind) + bytes(64 << 20) + header("y", 0) + bytes(1024)
    (tmp_path / "a.tar.zst").write_bytes(zstandard.compress(data))
    assert verifier(tmp_path / "a.tar.zst") == DIFFERENT
    assert "a header takes more than 1048576 bytes" in verifier.output


def test_members_without_end_are_a_difference(
    verifier: Verifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_sidecar, "MOST_MEMBERS", 3)
    (tmp_path / "a.tar.zst").write_bytes(zstandard.compress(header("x/", 0) * 4 + bytes(1024)))
    assert verifier(tmp_path / "a.tar.zst") == DIFFERENT
    assert "it holds more than 3 members" in verifier.output


def test_lists_without_end_are_a_difference(
    verifier: Verifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_sidecar, "MOST_PAPER_BYTES", 4000)
    path = folder / f"{STEM}.zip"
    extra = {f"manifests/{number}.json": bytes(1000) for number in range(4)}
    rezip(path, lambda _, data: data, **extra)
    assert verifier(path) == DIFFERENT
    assert "its lists hold more than 4000 bytes" in verifier.output


def test_a_sparse_file_without_end_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("zeros")
    info.pax_headers = {
        "GNU.sparse.size": str(1 << 60),
        "GNU.sparse.map": f"{1 << 60},0",
        "GNU.sparse.numblocks": "1",
    }
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    found = verify_sidecar.tar_members(io.BytesIO((tmp_path / "a.tar").read_bytes()))
    assert [(member.name, member.opened) for member in found] == [("zeros", None)]


def test_an_index_that_names_itself_is_read_once(verifier: Verifier, folder: Path) -> None:
    without_sums(folder)
    digest = "a" * 64
    index = {"digest": f"sha256:{digest}", "size": 1}
    data = json.dumps({"manifests": [index]}).encode()
    path = folder / f"{STEM}.oci.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("index.json", f"blobs/sha256/{digest}"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert verifier(path) == DIFFERENT
    assert f"changed: blobs/sha256/{digest}" in verifier.output


def test_an_archive_without_a_manifest_cannot_pass(verifier: Verifier, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as packed:
        packed.writestr("hello.txt", b"hello")
    assert verifier(tmp_path / "b.zip") == DIFFERENT
    assert "missing: manifest.json" in verifier.output


def test_more_and_less_than_the_checksums_name_is_a_difference(
    verifier: Verifier, folder: Path
) -> None:
    (folder / "more.txt").write_bytes(b"more")
    (folder / f"{STEM}.zip").unlink()
    assert verifier(folder) == DIFFERENT
    assert "extra: more.txt\n" in verifier.output
    assert f"missing: {STEM}.zip\n" in verifier.output


def test_a_file_beside_checksums_that_do_not_name_it_is_a_difference(
    verifier: Verifier, folder: Path
) -> None:
    other = folder / "other.zip"
    shutil.copyfile(folder / f"{STEM}.zip", other)
    assert verifier(other) == DIFFERENT
    assert "extra: other.zip (SHA256SUMS does not name it)" in verifier.output


def test_a_statement_about_other_bytes_is_a_difference(verifier: Verifier, folder: Path) -> None:
    path = folder / "sidecar-0.0.1.provenance.json"
    statement = json.loads(path.read_text(encoding="utf-8"))
    statement["subject"] = statement["subject"][1:]
    statement["subject"][0]["digest"]["sha256"] = "0" * 64
    statement["predicateType"] = "https://example.com/other"
    path.write_text(json.dumps(statement), encoding="utf-8")
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    assert verifier(folder) == DIFFERENT
    assert "(the statement does not name it)" in verifier.output
    assert f"(the statement says sha256 {'0' * 64})" in verifier.output
    assert "(it is no statement of provenance)" in verifier.output


def reimage(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Write an image's archive anew from other members."""
    with tarfile.open(path) as tar:
        files = {info.name: tar.extractfile(info).read() for info in tar if info.isfile()}  # type: ignore[union-attr]
    change(files)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def layers(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Return what the one manifest in an image says of its layers."""
    digest = json.loads(files["index.json"])["manifests"][0]["digest"]
    found: list[dict[str, Any]] = json.loads(files[f"blobs/sha256/{digest[7:]}"])["layers"]
    return found


def test_a_blob_that_nothing_names_is_a_difference(verifier: Verifier, folder: Path) -> None:
    without_sums(folder)
    path = folder / f"{STEM}.oci.tar"
    reimage(path, lambda files: files.update({f"blobs/sha256/{'0' * 64}": b""}))
    assert verifier(path) == DIFFERENT
    assert f"extra: blobs/sha256/{'0' * 64}\n" in verifier.output


def test_a_layer_that_is_not_there_is_a_difference(verifier: Verifier, folder: Path) -> None:
    without_sums(folder)
    path = folder / f"{STEM}.oci.tar"

    def change(files: dict[str, bytes]) -> None:
        del files[f"blobs/sha256/{layers(files)[-1]['digest'][7:]}"]

    reimage(path, change)
    assert verifier(path) == DIFFERENT
    assert "missing: blobs/sha256/" in verifier.output


def test_a_layer_with_another_file_in_it_is_a_difference(verifier: Verifier, folder: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        name = f"blobs/sha256/{layers(files)[-2]['digest'][7:]}"
        data = gzip.decompress(files[name]).replace(b"return 0", b"return 1")
        files[name] = gzip.compress(data)

    without_sums(folder)
    path = folder / f"{STEM}.oci.tar"
    reimage(path, change)
    assert verifier(path) == DIFFERENT
    assert "changed: embedding_sidecar/sidecar/cli.py (sha256 " in verifier.output
    assert "(unpacked it is not sha256:" in verifier.output


def test_parts_pass_and_a_lost_one_does_not(verifier: Verifier, tmp_path: Path) -> None:
    folder = Released.make(tmp_path, part_bytes=4000).folder
    assert verifier(folder) == 0
    assert f"ok: {STEM}.zip.001, " in verifier.output
    for name in (f"{STEM}.zip", f"{STEM}.tar.zst"):
        assert verifier(folder / f"{name}.001") == 0
        assert "linux-x64 safe" in verifier.output
        (folder / f"{name}.002").unlink()
        assert verifier(folder / f"{name}.001") == DIFFERENT
        assert f"missing: {name}.002\n" in verifier.output


def test_docker_is_not_told_of_other_layers(verifier: Verifier, folder: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        images = json.loads(files["manifest.json"])
        images[0]["Layers"].pop()
        files["manifest.json"] = json.dumps(images).encode()

    without_sums(folder)
    path = folder / f"{STEM}.oci.tar"
    reimage(path, change)
    assert verifier(path) == DIFFERENT
    assert "changed: manifest.json (it names other layers than the index does)" in verifier.output


@contextlib.contextmanager
def lacking(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """Make modules impossible to import."""
    found = importlib.import_module

    def imported(name: str, package: str | None = None) -> Any:
        if name in names:
            raise ImportError(name)
        return found(name, package)

    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", imported)
        yield


@pytest.mark.skipif(ZSTD is None, reason="no program zstd here")
def test_the_program_zstd_serves_where_no_module_does(
    verifier: Verifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / f"{STEM}.tar.zst"
    with lacking(monkeypatch, *MODULES):
        assert verifier(path) == 0
        assert "plan " in verifier.output
        without_sums(folder)
        path.write_bytes(path.read_bytes()[:-20])
        assert verifier(path) == DIFFERENT


@pytest.mark.parametrize(
    "lacks", [(), ("zstandard", "compression.zstd")], ids=["module", "program"]
)
@pytest.mark.parametrize("behind", ["zeros", "a frame", "no frame"])
def test_what_lies_behind_a_tar_is_a_difference(
    verifier: Verifier,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    behind: str,
    lacks: tuple[str, ...],
) -> None:
    if lacks and ZSTD is None:
        pytest.skip("no program zstd here")
    without_sums(folder)
    path = folder / f"{STEM}.tar.zst"
    with zstandard.open(path) as packed:
        tar = packed.read()
    # More than a pipe holds: the program may not be left to write it.
    more = {
        "zeros": zstandard.compress(tar + bytes(1 << 20)),
        "a frame": path.read_bytes() + zstandard.compress(bytes(1 << 20)),
        "no frame": path.read_bytes() + b"more",
    }
    path.write_bytes(more[behind])
    with lacking(monkeypatch, *lacks):
        assert verifier(path) == DIFFERENT
    assert f"changed: {path.name} (it cannot be read: " in verifier.output


def test_without_any_zstd_it_says_that_only_the_checksum_was_compared(
    verifier: Verifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    path = folder / f"{STEM}.tar.zst"
    with lacking(monkeypatch, *MODULES):
        assert verifier(path) == 0
        assert "note: only its sha256 was compared: " in verifier.output
        path.write_bytes(path.read_bytes() + b"\0")
        assert verifier(path) == DIFFERENT


def test_what_cannot_be_checked_exits_2(verifier: Verifier, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"hello")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "missing"):
        assert verifier(path) == USAGE
    (tmp_path / "SHA256SUMS").write_text("hello\n", encoding="utf-8")
    assert verifier(tmp_path) == USAGE


def test_a_long_list_of_differences_is_cut(
    verifier: Verifier, released: Released, tmp_path: Path
) -> None:
    copy = shutil.copytree(released.bundle, tmp_path / "bundle")
    for number in range(60):
        (copy / f"extra{number:02}").write_bytes(b"")
    assert verifier(copy) == DIFFERENT
    assert "  and 10 more\n" in verifier.output
