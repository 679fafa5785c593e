"""Reading tar archives (plain, gzip, zstd) that may be hostile, into trees without links."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

import zstandard

from bundler import atomic
from bundler.assembly.path_rules import ArchiveLimits, Member, MemberCheck, keep_all
from bundler.errors import DiskError, IntegrityError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from bundler.assembly.path_rules import MemberKind

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
WINDOW_BYTES = 1 << 27
COPY_BYTES = 1 << 20
BLOCK_BYTES = 512
READ_BYTES = 128 * BLOCK_BYTES
# What may lie between two members' data: a header, and the extended headers before it.
HEADER_BYTES = 1 << 20
# All of them; a member of a runtime takes one or two kilobytes, and there are some 5,000.
HEADERS_BYTES = 128 << 20
LONGEST_LINK_CHAIN = 8
UNREADABLE = (
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    zstandard.ZstdError,
    EOFError,
    ValueError,
    RecursionError,
)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(slots=True)
class _Gauge:
    """A stream that gives no more than it is allowed, so no headers can ask for all memory."""

    stream: _Readable
    archive: str
    allowance: int = HEADER_BYTES
    budget: int = HEADERS_BYTES
    tail: bytes = b""

    def allow(self, size: int) -> None:
        """Allow a member's data and the header behind it."""
        self.allowance = HEADER_BYTES + size
        self.budget += size + -size % BLOCK_BYTES

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes. Raises PolicyError."""
        if self.allowance <= 0:
            self._refuse("a header", f"it takes more than {HEADER_BYTES} bytes")
        if self.budget <= 0:
            self._refuse("its headers", f"they take more than {HEADERS_BYTES} bytes")
        data = self.stream.read(size)
        self.allowance -= len(data)
        self.budget -= len(data)
        self.tail = (self.tail + data[-BLOCK_BYTES:])[-BLOCK_BYTES:]
        return data

    def _refuse(self, what: str, why: str) -> NoReturn:
        raise PolicyError(
            f"{self.archive} is not unpacked because of {what}",
            why=why,
            next_step="take the artifact from another source",
        )


# What will be written: for a member's place in the archive, the member, and where its bytes go.
Layout = dict[int, tuple[Member, list[str]]]


def extract(
    archive: Path,
    destination: Path,
    *,
    strip: int = 1,
    limits: ArchiveLimits | None = None,
    keep: Callable[[str], bool] = keep_all,
    on_dropped: Callable[[str, int], None] = lambda _path, _size: None,
) -> dict[str, int]:
    """Unpack a tar archive into the new folder `destination`; return its files' modes, by path.

    Every member is read and checked before the first byte is written, so a refusal costs no disk.
    Links inside the archive become copies, modes become 0644 or 0755, empty folders and owners are
    dropped. `keep` is asked with the path below `destination`; what it drops must still be safe,
    but need not be portable, and `on_dropped` hears of it. The tree appears by one rename: a killed
    process leaves a hidden folder beside it, never half a tree. Raises PolicyError, IntegrityError,
    DiskError.
    """
    if destination.is_dir() and any(destination.iterdir()):
        raise DiskError(
            f"{destination.name} cannot be unpacked into",
            why="the folder is not empty",
            next_step=f"remove {destination}",
        )
    check = MemberCheck(
        archive=archive.name,
        limits=limits or ArchiveLimits(),
        packed_bytes=archive.stat().st_size,
        strip=strip,
        keep=keep,
    )
    with archive.open("rb") as raw:
        layout = _survey(raw, check, on_dropped)
        needed = sum(source.size * len(paths) for source, paths in layout.values())
        destination.parent.mkdir(parents=True, exist_ok=True)
        atomic.require_space(destination.parent, needed, purpose=archive.name)
        with atomic.disk_errors(destination.parent, purpose=archive.name, needed=needed):
            work = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
            try:
                _write(raw, check, layout, work)
                if destination.is_dir():
                    destination.rmdir()
                atomic.rename(work, destination)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return {
        path: _mode(source)
        for path, source in sorted((p, source) for source, paths in layout.values() for p in paths)
    }


def _mode(member: Member) -> int:
    return atomic.EXECUTABLE if member.mode & 0o111 else atomic.PLAIN


@contextmanager
def _reading(raw: BinaryIO, archive: str) -> Iterator[Iterator[tuple[tarfile.TarInfo, BinaryIO]]]:
    """Give the archive's members in order, each with its data. Raises IntegrityError."""
    raw.seek(0)
    magic = raw.read(4)
    raw.seek(0)
    stream: _Readable = raw
    if magic.startswith(GZIP):
        stream = gzip.GzipFile(fileobj=raw, mode="rb")
    elif magic == ZSTD:
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        stream = decompressor.stream_reader(raw, read_across_frames=True, closefd=False)
    gauge = _Gauge(stream, archive)
    try:
        with tarfile.open(
            fileobj=cast("BinaryIO", gauge),
            mode="r|",
            bufsize=READ_BYTES,
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            yield _members(tar, gauge)
    except UNREADABLE as error:
        raise IntegrityError(
            f"{archive} cannot be read to its end",
            why=f"it is cut short, damaged, or no tar archive ({type(error).__name__}: {error})",
            next_step="fetch it again",
        ) from error


def _members(tar: tarfile.TarFile, gauge: _Gauge) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """Yield each member, allowing the stream its data and the next header."""
    while (info := tar.next()) is not None:
        gauge.allow(max(info.size, 0))
        # tarfile remembers every member; a bomb of headers would fill memory.
        tar.members = []  # type: ignore[attr-defined]
        yield info, cast("BinaryIO", tar.extractfile(info) if info.isreg() else None)
    if gauge.tail != bytes(BLOCK_BYTES):
        message = "it has no end mark"
        raise EOFError(message)


def _member(info: tarfile.TarInfo) -> Member:
    """Return what is checked of `info`."""
    kind: MemberKind = "device, pipe or sparse file"
    if info.isdir():
        kind = "folder"
    elif info.issym():
        kind = "symlink"
    elif info.islnk():
        kind = "hard link"
    elif info.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and info.sparse is None:
        kind = "file"
    size = info.size if kind == "file" else 0
    return Member(name=info.name, kind=kind, size=size, mode=info.mode, link=info.linkname)


def _survey(raw: BinaryIO, check: MemberCheck, on_dropped: Callable[[str, int], None]) -> Layout:
    """Read every header, check it, and return what is to be written. Raises PolicyError."""
    known: dict[str, tuple[int, Member]] = {}
    with _reading(raw, check.archive) as members:
        for index, (info, _) in enumerate(members):
            member = _member(info)
            path = check.admit(member)
            _check_link(member, known, check)
            _, before = known.get(path, (0, None))
            if before is not None and {before.kind, member.kind} != {"folder"}:
                check.refuse(member.name, f"{path!r} is there twice")
            known[path] = (index, member)
    layout: Layout = {}
    for path, (_, member) in known.items():
        if member.kind == "folder":
            continue
        if not check.keep(path):
            on_dropped(path, member.size)
            continue
        check.claim(member.name, path)
        index, source = _source(known, path, check)
        if source is not member:
            check.weigh(member.name, source.size)
        layout.setdefault(index, (source, []))[1].append(path)
    return layout


def _check_link(member: Member, known: dict[str, tuple[int, Member]], check: MemberCheck) -> None:
    """Refuse a link out of the archive, and a hard link to anything but a file seen before."""
    if member.kind == "symlink":
        check.target(member)
    elif member.kind == "hard link":
        _, source = known.get(check.target(member), (0, None))
        if source is None or source.kind != "file":
            check.refuse(member.name, "it is a hard link to no file before it")


def _source(
    known: dict[str, tuple[int, Member]], path: str, check: MemberCheck
) -> tuple[int, Member]:
    """Return the file whose bytes `path` shows, through its links. Raises PolicyError."""
    index, member = known[path]
    first = member
    for _ in range(LONGEST_LINK_CHAIN):
        if member.kind == "file":
            return index, member
        if member.kind == "folder":
            check.refuse(first.name, "it is a link to a folder")
        target = check.target(member)
        if target not in known:
            check.refuse(first.name, f"it links to {member.link!r}, which is not in the archive")
        index, member = known[target]
    return check.refuse(first.name, "its links lead nowhere")


def _write(raw: BinaryIO, check: MemberCheck, layout: Layout, work: Path) -> None:
    """Write the files of `layout` below `work`, every folder 0755 whatever the umask."""
    with _reading(raw, check.archive) as members:
        for index, (_, stream) in enumerate(members):
            if index not in layout:
                continue
            source, paths = layout[index]
            places = [work / path for path in paths]
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
            with places[0].open("xb") as output:
                shutil.copyfileobj(stream, output, COPY_BYTES)
            for place in places[1:]:
                shutil.copyfile(places[0], place)
            for place in places:
                atomic.set_mode(place, _mode(source))
    for folder, _, _ in os.walk(work):
        atomic.set_mode(folder, atomic.FOLDER)
