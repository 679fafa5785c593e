"""Archives that mean harm: each is refused by name, exit 7, with nothing written anywhere."""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from bundler.assembly import safe_extract, wheel_installer
from bundler.errors import BundlerError, IntegrityError, PolicyError
from bundler.targets import TARGETS
from tests.support.tinytar import Entry, write_tar
from tests.support.tinywheel import add, tiny_wheel

if TYPE_CHECKING:
    from pathlib import Path

SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
GOOD = Entry(name="top/good", data=b"good")
HOSTILE = {
    "climbing": [Entry(name="top/../../evil", data=b"x")],
    "climbing-inside": [Entry(name="top/a/../evil", data=b"x")],
    "absolute": [Entry(name="/opt/evil", data=b"x")],
    "drive": [Entry(name="C:/evil", data=b"x")],
    "backslash": [Entry(name="top\\..\\evil", data=b"x")],
    "control": [Entry(name="top/evil\n", data=b"x")],
    "not-utf8": [Entry(name="top/evil\udcff", data=b"x")],
    "double-slash": [Entry(name="top//evil", data=b"x")],
    "beside-top": [Entry(name="evil", data=b"x")],
    "second-top": [Entry(name="other/evil", data=b"x")],
    "too-long": [Entry(name="top/evil" + "x" * 300, data=b"x")],
    "too-deep": [Entry(name="top/evil" + "/x" * 200, data=b"x")],
    "empty-link": [Entry(name="top/evil", type=SYM, link="")],
    "absolute-link": [Entry(name="top/evil", type=SYM, link="/etc/passwd")],
    "escaping-link": [Entry(name="top/evil", type=SYM, link="../../etc/passwd")],
    "link-over-the-top": [Entry(name="top/evil", type=SYM, link="../top/good")],
    "windows-link": [Entry(name="top/evil", type=SYM, link="C:\\Windows")],
    "dangling-link": [Entry(name="top/evil", type=SYM, link="nobody")],
    "own-tail-link": [Entry(name="top/evil", type=SYM, link="evil")],
    "link-of-kilobytes": [Entry(name="top/evil", type=SYM, link=f"{'./' * 3000}good")],
    "hard-link-of-kilobytes": [Entry(name="top/evil", type=HARD, link=f"{'./' * 3000}top/good")],
    "link-to-folder": [Entry(name="top/d/f"), Entry(name="top/evil", type=SYM, link="d")],
    "link-circle": [
        Entry(name="top/evil", type=SYM, link="evil2"),
        Entry(name="top/evil2", type=SYM, link="evil"),
    ],
    "through-a-link": [
        Entry(name="top/evil", type=SYM, link="good"),
        Entry(name="top/evil/file", data=b"x"),
    ],
    "hard-escaping": [Entry(name="top/evil", type=HARD, link="top/../../etc/passwd")],
    "hard-absolute": [Entry(name="top/evil", type=HARD, link="/etc/passwd")],
    "hard-empty": [Entry(name="top/evil", type=HARD, link="")],
    "hard-to-link": [
        Entry(name="top/link", type=SYM, link="good"),
        Entry(name="top/evil", type=HARD, link="top/link"),
    ],
    "hard-to-hard": [
        Entry(name="top/hard", type=HARD, link="top/good"),
        Entry(name="top/evil", type=HARD, link="top/hard"),
    ],
    "hard-to-later": [
        Entry(name="top/evil", type=HARD, link="top/later"),
        Entry(name="top/later", data=b"x"),
    ],
    "character-device": [Entry(name="top/evil", type=tarfile.CHRTYPE)],
    "block-device": [Entry(name="top/evil", type=tarfile.BLKTYPE)],
    "pipe": [Entry(name="top/evil", type=tarfile.FIFOTYPE)],
    "unknown-type": [Entry(name="top/evil", type=b"Z")],
    "sparse": [
        Entry(
            name="top/evil",
            headers={"GNU.sparse.major": "0", "GNU.sparse.map": "0,0", "GNU.sparse.size": "9"},
        )
    ],
    "set-user-id": [Entry(name="top/evil", mode=0o4755)],
    "set-group-id": [Entry(name="top/evil", mode=0o2755)],
    "case": [Entry(name="top/EVIL"), Entry(name="top/evil")],
    "folder-case": [Entry(name="top/EVIL/a"), Entry(name="top/evil/b")],
    "unicode-case": [Entry(name="top/evil\u00e9"), Entry(name="top/evile\u0301")],
    "twice": [Entry(name="top/evil", data=b"1"), Entry(name="top/evil", data=b"2")],
    "file-and-folder": [Entry(name="top/evil"), Entry(name="top/evil/b")],
    "reserved": [Entry(name="top/evil/nul.txt")],
    "reserved-superscript": [Entry(name="top/evil/com\u00b9")],
    "trailing-dot": [Entry(name="top/evil.")],
    "colon": [Entry(name="top/evil:stream")],
}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.zst"])
@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_tar_exits_7_naming_the_member_and_writes_nothing(
    tmp_path: Path, entries: list[Entry], suffix: str
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    packed = write_tar(inner / f"a.{suffix}", [GOOD, *entries])
    with pytest.raises(PolicyError) as caught:
        safe_extract.extract(packed, inner / "out")
    assert caught.value.exit_code == 7
    assert "evil" in caught.value.what.lower()
    assert caught.value.why
    assert caught.value.next_step
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert [path.name for path in inner.iterdir()] == [packed.name]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return one tar header that promises `size` bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_hundred_gigabytes_of_zeros_are_refused_at_the_header(
    tmp_path: Path, suffix: str
) -> None:
    packed = tmp_path / f"bomb.tar.{suffix}"
    data = header("top/evil", 100 << 30) + bytes(8 << 20)
    packed.write_bytes(gzip.compress(data) if suffix == "gz" else zstandard.compress(data))
    with pytest.raises(PolicyError, match="top/evil"):
        safe_extract.extract(packed, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [packed.name]


def test_a_bomb_of_honest_members_is_refused_by_its_ratio(tmp_path: Path) -> None:
    entries = [Entry(name=f"top/evil{n}", data=bytes(1 << 20)) for n in range(20)]
    packed = write_tar(tmp_path / "bomb.tar.gz", entries)
    with pytest.raises(PolicyError, match="top/evil") as caught:
        safe_extract.extract(packed, tmp_path / "out")
    assert "times what it is packed in" in caught.value.why
    assert [path.name for path in tmp_path.iterdir()] == [packed.name]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b"g"])
def test_a_header_of_many_megabytes_is_not_read_into_memory(tmp_path: Path, kind: bytes) -> None:
    packed = tmp_path / "bomb.tar.zst"
    data = header("top/evil", 64 << 20, kind) + bytes(64 << 20) + header("top/x", 0) + bytes(1024)
    packed.write_bytes(zstandard.compress(data))
    with pytest.raises(PolicyError, match="because of a header"):
        safe_extract.extract(packed, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [packed.name]


def test_headers_that_are_many_megabytes_together_are_refused(tmp_path: Path) -> None:
    packed = tmp_path / "bomb.tar.zst"
    size = 1_000_000
    text = f"{size} comment=".encode()
    text += b"x" * (size - len(text) - 1) + b"\n" + bytes(-size % 512)
    compressor = zstandard.ZstdCompressor().compressobj()
    with packed.open("wb") as stream:
        for number in range(140):
            one = header("top/x", size, tarfile.XHDTYPE) + text + header(f"top/{number}", 0)
            stream.write(compressor.compress(one))
        stream.write(compressor.compress(bytes(1024)) + compressor.flush())
    with pytest.raises(PolicyError, match="because of its headers"):
        safe_extract.extract(packed, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [packed.name]


def test_a_thousand_nested_headers_end_in_an_error_of_ours(tmp_path: Path) -> None:
    packed = tmp_path / "a.tar"
    packed.write_bytes(header("top/evil", 0, tarfile.XHDTYPE) * 2000 + bytes(1024))
    with pytest.raises(BundlerError):
        safe_extract.extract(packed, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "a.tar"
    packed.write_bytes(header("top/evil", -512) + bytes(2048))
    with pytest.raises(PolicyError, match="top/evil"):
        safe_extract.extract(packed, tmp_path / "out")


ZIPPED = {
    "climbing": ("../evil", stat.S_IFREG | 0o644),
    "absolute": ("/evil", stat.S_IFREG | 0o644),
    "drive": ("C:/evil", stat.S_IFREG | 0o644),
    "backslash": ("a\\..\\evil", stat.S_IFREG | 0o644),
    "symlink": ("evil", stat.S_IFLNK | 0o777),
    "device": ("evil", stat.S_IFCHR | 0o644),
    "set-user-id": ("evil", stat.S_IFREG | 0o4755),
    "case": ("TINY/evil.py", stat.S_IFREG | 0o644),
    "reserved": ("evil/aux.py", stat.S_IFREG | 0o644),
    "data-climbing": ("tiny-1.0.data/data/../../../evil", stat.S_IFREG | 0o644),
}


@pytest.mark.parametrize(("name", "mode"), ZIPPED.values(), ids=ZIPPED)
def test_a_hostile_wheel_exits_7_naming_the_member_and_writes_nothing(
    tmp_path: Path, name: str, mode: int
) -> None:
    wheel = tiny_wheel(tmp_path)
    with zipfile.ZipFile(wheel, "a") as archive:
        add(archive, name, b"/etc/passwd", mode)
    with pytest.raises(PolicyError) as caught:
        wheel_installer.install(wheel, tmp_path / "site", target=TARGETS["linux-x64"])
    assert caught.value.exit_code == 7
    assert "evil" in caught.value.what
    assert [path.name for path in tmp_path.iterdir()] == [wheel.name]


def test_a_wheel_that_is_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, extra={"tiny/evil.bin": bytes(32 << 20)})
    with pytest.raises(PolicyError, match=r"tiny/evil\.bin"):
        wheel_installer.install(wheel, tmp_path / "site", target=TARGETS["linux-x64"])
    assert [path.name for path in tmp_path.iterdir()] == [wheel.name]


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(wheel, "a") as archive:
        add(archive, "tiny/__init__.py", b"evil", stat.S_IFREG | 0o644)
    with pytest.raises(PolicyError, match="tiny/__init__"):
        wheel_installer.install(wheel, tmp_path / "site", target=TARGETS["linux-x64"])


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    with zipfile.ZipFile(wheel, "a") as archive:
        add(archive, "", b"evil", stat.S_IFREG | 0o644)
    with pytest.raises(PolicyError, match="its member ''"):
        wheel_installer.install(wheel, tmp_path / "site", target=TARGETS["linux-x64"])


def test_a_wheel_whose_beginning_is_missing_exits_4(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    wheel.write_bytes(wheel.read_bytes()[10:])
    with pytest.raises(IntegrityError, match="cannot be read"):
        wheel_installer.install(wheel, tmp_path / "site", target=TARGETS["linux-x64"])


def test_a_member_packed_in_a_way_wheels_do_not_use_is_refused(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tiny/evil.py", b"x = 1\n", compress_type=zipfile.ZIP_LZMA)
    with pytest.raises(PolicyError, match=r"tiny/evil\.py"):
        wheel_installer.install(wheel, tmp_path / "site", target=TARGETS["linux-x64"])
