from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecar import manifest as subject
from sidecar.manifest import (
    Component,
    Damage,
    FileEntry,
    Manifest,
    ManifestError,
    Model,
    Runtime,
    canonical,
    damages,
    decode,
    decode_entries,
    encode,
    encode_entries,
    entry_damage,
    read,
    read_entries,
    strays,
)

if TYPE_CHECKING:
    from typing import Any

HEX = "ab" * 32
FULL = Manifest(
    plan=HEX,
    papers=HEX,
    target="linux-x64",
    version="1.2.3",
    profile="safe",
    runtime=Runtime(version="3.11.9", source="host", executable="python/bin/python3.11"),
    default_model="tiny",
    models=(
        Model(
            name="tiny",
            repository="example/tiny",
            revision="0" * 40,
            dim=2,
            max_tokens=8,
            pooling="mean",
            snapshot="models/hub/x",
            golden="models/golden/tiny.json",
            least_int8=0.9769,
            least_dim=1,
        ),
    ),
    components=(Component(name="service", digest=HEX, inputs=HEX, files=1, size=3),),
    documents=(FileEntry(path="NOTICES.txt", mode=0o644, size=1, sha256=HEX),),
    floor={"glibc": "2.28"},
    unreleasable=("the runtime is a copy",),
)


def entry(path: str = "a/b.txt", data: bytes = b"abc", mode: int = 0o644) -> FileEntry:
    return FileEntry(path=path, mode=mode, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def place(root: Path, path: str, data: bytes = b"abc") -> FileEntry:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    return entry(path, data)


def altered(**changes: Any) -> bytes:
    return json.dumps({**json.loads(encode(FULL)), **changes}).encode()


def test_a_manifest_comes_back_as_it_was() -> None:
    assert decode(encode(FULL)) == FULL


def test_the_bytes_of_a_manifest_do_not_follow_the_order_of_its_mappings() -> None:
    one = replace(FULL, floor={"a": "1", "b": "2"})
    two = replace(FULL, floor={"b": "2", "a": "1"})
    assert encode(one) == encode(two)


def test_canonical_json_has_one_spelling() -> None:
    assert canonical({"b": 1, "a": ["ü", None]}) == '{"a":["ü",null],"b":1}\n'.encode()


def component(**changes: Any) -> dict[str, Any]:
    return {**asdict(FULL.components[0]), **changes}


def model(**changes: Any) -> dict[str, Any]:
    facts = {"name": "words", "repository": "stub/words", "revision": HEX[:40], "dim": 8}
    facts |= {"max_tokens": 8, "pooling": "mean", "snapshot": "models/words"}
    return {**asdict(Model(**facts)), **changes}  # type: ignore[arg-type]


def test_models_with_names_of_their_own_can_be_read() -> None:
    other = model(name="b", repository="c/d", aliases=["e", "words:22m"])
    assert [one.name for one in decode(altered(models=[model(), other])).models] == ["words", "b"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b"[" * 100_000,
        b'{"schema": 1, "plan": ' * 100_000,
        altered(schema=0),
        altered(schema=2),
        altered(runtime=None),
        altered(runtime={"version": "3"}),
        altered(models=[{}]),
        altered(components=[[]]),
        altered(components=None),
        altered(documents=[{"path": "x"}]),
        altered(documents=[{"path": 5, "mode": 1, "size": 1, "sha256": HEX}]),
        altered(documents=[{"path": "x", "mode": 1, "size": "1", "sha256": HEX}]),
        altered(documents=[{"path": "../x", "mode": 1, "size": 1, "sha256": HEX}]),
        altered(documents=[{"path": "x", "mode": 1, "size": -1, "sha256": HEX}]),
        altered(documents=[{"path": "x", "mode": 1, "size": 10**400, "sha256": HEX}]),
        altered(documents=[{"path": "x", "mode": 1, "size": True, "sha256": HEX}]),
        altered(documents=[{"path": "x", "mode": 1 << 20, "size": 1, "sha256": HEX}]),
        altered(plan=[]),
        altered(floor=["glibc"]),
        altered(floor={"glibc": 2.28}),
        altered(unreleasable=[1]),
        altered(default_model=7),
        altered(models=[model(), model(repository="other/words")]),
        altered(models=[model(), model(name="b", repository="c", aliases=["WORDS"])]),
        altered(models=[model(), model(name="b", repository="c/words")]),
        altered(components=[component(size="1")]),
        altered(components=[component(name=None)]),
        altered(components=[component(), component()]),
        altered()[:-1] + b',"plan":"again"}',
        altered(
            components=[{"name": "../../x", "digest": HEX, "inputs": HEX, "files": 1, "size": 1}]
        ),
    ],
)
def test_a_manifest_that_is_none_is_refused_with_one_error(data: bytes) -> None:
    with pytest.raises(ManifestError):
        decode(data)


def test_another_schema_is_named_with_the_one_that_is_read() -> None:
    with pytest.raises(ManifestError, match="has schema 7, this program reads 1"):
        decode(altered(schema=7))


def test_entries_come_back_sorted_by_path() -> None:
    entries = (entry("b"), entry("a/z", mode=0o755), entry("a.txt"))
    data = encode_entries(entries)
    assert [found.path for found in decode_entries(data)] == ["a.txt", "a/z", "b"]
    assert set(decode_entries(data)) == set(entries)
    assert data == encode_entries(reversed(entries))


def test_an_entry_takes_one_line_so_that_lists_compare_as_text() -> None:
    assert encode_entries([entry("ü"), entry("b")]).decode().count("\n") == 4


def test_a_list_of_no_files_can_be_read() -> None:
    assert decode_entries(encode_entries([])) == ()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a\\b",
        "",
        ".",
        "C:/x",
        "a:stream",
        "a\0b",
        "a\ud800",
        "\udc80",
    ],
)
def test_a_path_that_leads_out_of_the_bundle_is_refused(path: str) -> None:
    with pytest.raises(ManifestError, match="outside the bundle"):
        decode_entries(json.dumps([[path, "0644", 1, HEX]]).encode())


@pytest.mark.parametrize(
    "line",
    [
        ["a", "0644", 1],
        ["a", "rwx", 1, HEX],
        ["a", 420, 1, HEX],
        [5, "0644", 1, HEX],
        ["a", "0644", "1", HEX],
        ["a", "0644", -1, HEX],
        ["a", "0644", 1 << 60, HEX],
        ["a", "-644", 1, HEX],
        ["a", "7" * 30, 1, HEX],
        ["a", "0644", 1, None],
        "a",
        None,
    ],
)
def test_an_entry_that_is_none_is_refused(line: object) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        decode_entries(json.dumps([line]).encode())


def test_a_bundle_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json cannot be read"):
        read(tmp_path)


def test_component_list_must_have_the_manifests_digest(
    tmp_path: Path,
) -> None:
    data = encode_entries([entry()])
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/service.json").write_bytes(data)
    component = replace(FULL.components[0], digest=hashlib.sha256(data).hexdigest())
    assert read_entries(tmp_path, component) == (entry(),)
    with pytest.raises(ManifestError, match="is not the list"):
        read_entries(tmp_path, FULL.components[0])
    (tmp_path / "manifests/service.json").unlink()
    with pytest.raises(ManifestError, match="cannot be read"):
        read_entries(tmp_path, component)


@pytest.mark.parametrize("name", ["manifest.json", "manifests/service.json"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "link", "folder", "large"])
def test_a_paper_that_is_no_regular_file_is_refused_unopened(
    tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / name
    (tmp_path / "manifests").mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(path))
    elif kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, subject.MOST_PAPER_BYTES + 1)
    with pytest.raises(ManifestError, match=r"\.json is not a regular file, or is over"):
        read(tmp_path) if name == "manifest.json" else read_entries(tmp_path, FULL.components[0])


@pytest.mark.parametrize("becomes", ["pipe", "file"])
def test_a_paper_swapped_in_before_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    place(tmp_path, "manifest.json", encode(FULL))
    look = os.lstat

    def swap(path: Path) -> os.stat_result:
        found = look(path)
        path.rename(tmp_path / "before")
        os.mkfifo(path) if becomes == "pipe" else path.write_bytes(encode(FULL))
        return found

    monkeypatch.setattr(os, "lstat", swap)
    with pytest.raises(ManifestError, match="was replaced while it was read"):
        read(tmp_path)


def test_a_file_that_is_as_listed_is_not_damaged(tmp_path: Path) -> None:
    assert entry_damage(tmp_path, place(tmp_path, "a/b.txt")) is None


@pytest.mark.parametrize(
    ("data", "detail"),
    [(b"abcd", "4 bytes instead of 3"), (b"abd", f"sha256 {hashlib.sha256(b'abd').hexdigest()}")],
)
def test_a_changed_file_is_named_with_what_it_is(tmp_path: Path, data: bytes, detail: str) -> None:
    listed = place(tmp_path, "a/b.txt")
    place(tmp_path, "a/b.txt", data)
    found = entry_damage(tmp_path, listed)
    assert found is not None
    assert (found.kind, found.path) == ("changed", "a/b.txt")
    assert found.detail.startswith(detail)


def test_a_file_that_cannot_be_read_is_named_and_does_not_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = place(tmp_path, "bad"), place(tmp_path, "good", b"x")
    (tmp_path / "good").write_bytes(b"y")
    original = subject.file_sha256

    def failing(path: str | Path) -> str:
        if Path(path).name == "bad":
            raise OSError(5, "Input/output error")
        return original(path)

    monkeypatch.setattr(subject, "file_sha256", failing)
    found = list(damages(tmp_path, [bad, good]))
    assert [damage.path for damage in found] == ["bad", "good"]
    assert found[0].detail == "unreadable: Input/output error"


def test_modes_are_compared_only_where_it_is_asked_for(tmp_path: Path) -> None:
    listed = place(tmp_path, "a")
    (tmp_path / "a").chmod(0o600)
    assert list(damages(tmp_path, [listed])) == []
    (found,) = damages(tmp_path, [listed], with_modes=True)
    assert found.detail == "mode 0600 instead of 0644"


def test_damages_come_in_the_order_of_the_entries_and_all_bytes_are_counted(
    tmp_path: Path,
) -> None:
    entries = [entry(f"{n:02}", b"x" * n) for n in range(30)]
    for n in range(1, 30, 2):
        place(tmp_path, f"{n:02}", b"x" * n)
    heard: list[int] = []
    found = list(damages(tmp_path, entries, workers=3, on_bytes=heard.append))
    assert found == [Damage(kind="missing", path=f"{n:02}") for n in range(0, 30, 2)]
    assert sum(heard) == sum(range(30))


def test_strays_are_files_links_and_empty_folders_that_nobody_listed(tmp_path: Path) -> None:
    place(tmp_path, "a/known")
    place(tmp_path, "a/extra")
    (tmp_path / "hollow").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    found = {(damage.path, damage.detail) for damage in strays(tmp_path, ["a/known"])}
    assert found == {("a/extra", ""), ("hollow", "empty folder"), ("linked", "a link")}


def test_strays_are_told_apart_and_none_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(tmp_path / "socket"))
    found = {(damage.path, damage.detail) for damage in strays(tmp_path, [])}
    special = "not a regular file"
    assert found == {("pipe", special), ("loop", "a link"), ("socket", special)}


def test_strays_come_folder_by_folder_in_the_order_of_names(tmp_path: Path) -> None:
    for path in ("b/2", "a/z/1", "a/b", "c"):
        place(tmp_path, path)
    assert [damage.path for damage in strays(tmp_path, [])] == ["a/b", "a/z/1", "b/2", "c"]


@pytest.mark.parametrize(
    ("name", "detail"),
    [("d", "empty folder"), ("d" * 200, "cannot be listed: File name too long")],
)
def test_folders_nested_without_end_are_named(tmp_path: Path, name: str, detail: str) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_500 if len(name) == 1 else 30):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    (found,) = strays(tmp_path, [])
    assert found.path.startswith(f"{name}/{name}/")
    assert found.detail == detail
    # The system's own tools, and pytest's, need not cope with this.
    subprocess.run(["rm", "-rf", str(tmp_path / name)], check=True)


def test_strays_can_be_looked_for_in_one_folder(tmp_path: Path) -> None:
    place(tmp_path, "a/extra")
    place(tmp_path, "b/extra")
    assert [damage.path for damage in strays(tmp_path, [], "a")] == ["a/extra"]


def test_the_hash_of_a_file_larger_than_a_chunk_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192 + b"tail"
    assert len(data) > subject.CHUNK_BYTES
    place(tmp_path, "large", data)
    assert subject.file_sha256(tmp_path / "large") == hashlib.sha256(data).hexdigest()


def test_a_device_is_not_a_file(tmp_path: Path) -> None:
    null = Path("/dev/null")
    if not null.exists() or not stat.S_ISCHR(null.stat().st_mode):
        pytest.skip("there is no null device here")
    (tmp_path / "a").symlink_to(null)
    found = entry_damage(tmp_path, entry("a", b""))
    assert found is not None
    assert found.detail == "not a regular file"
