#!/usr/bin/env python3
"""Check a release of Sidecar. Needs Python 3.8 or newer, and nothing but its standard library.

    python3 verify_sidecar.py PATH...

PATH is a release's folder, an archive (.tar.zst, .zip, or the first of its parts, .001), an image
(.oci.tar), or an unpacked bundle. Nothing is written or unpacked, and no network is used.

A file that has SHA256SUMS beside it is compared with that. Then each file inside is compared with
manifest.json and the lists in manifests/: missing, extra, changed. Ends with 0 if all is as it
should be, with 8 if something differs, and with 2 if there is nothing to check.

It says whether files are what the release says of itself. Who made the release, only a signature
can say: `gh attestation verify` asks for that.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import unicodedata
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from sidecar.manifest import (
    CHUNK_BYTES,
    FOLDER,
    MANIFEST,
    MANIFESTS,
    MOST_PAPER_BYTES,
    Damage,
    FileEntry,
    Manifest,
    below,
    decode,
    decode_entries,
    is_inside,
    kind_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DIFFERENT = 8
USAGE = 2
# Ten times what a bundle with every GPU's libraries takes; a bomb would take hours.
MOST_BYTES = 100 << 30
# Forty times what a bundle has; members without end, or a header, would fill memory.
MOST_MEMBERS = 1_000_000
MOST_HEADER_BYTES = 1 << 20
SHOWN = 50
OTHERS_WRITE = 0o002
UNSAFE = 0o7000 | OTHERS_WRITE  # set-id and sticky bits
RUNS = 0o100
NO_MODE = -1  # of a file on Windows
SUMS = "SHA256SUMS"
PLACE = "opt/sidecar/"
STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
# A name that any system can be asked for: one with a NUL or too many bytes ends in an error.
SUM = re.compile(r"([0-9a-f]{64}) [ *]([ -.0-\[\]-~]{1,255})")
PART = re.compile(r"(.+)\.(\d{3})")
NO_ZSTD = "to look inside takes Python 3.14, the module zstandard, or the program zstd"
ARCHIVES = (".tar.zst", ".zip", ".oci.tar")
UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError),
)


class ArgumentError(Exception):
    """There is nothing here that can be checked."""


class Report:
    """What came of one check: what it was, what differs, and what could not be looked at."""

    def __init__(self, subject: str, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Begin without a difference; `on_bytes` hears how many more bytes were looked at."""
        self.subject = subject
        self.on_bytes = on_bytes
        self.manifest: Manifest | None = None
        self.files = 0
        self.size = 0
        self.differences: list[str] = []
        self.notes: list[str] = []

    def differ(self, kind: str, path: str, detail: str = "") -> None:
        """Record a difference: missing, extra or changed."""
        self.differences.append(printable(str(Damage(kind=kind, path=path, detail=detail))))

    def lines(self) -> list[str]:
        """Return what people read, fit for a terminal."""
        word = "DIFFERS" if self.differences else "ok"
        told = [f"{self.files} files, {self.size / 1e6:.1f} MB"] if self.files else []
        if self.manifest:
            seen = self.manifest
            told += [f"{seen.version} {seen.target} {seen.profile}", f"plan {seen.plan[:12]}"]
        found = [f"{word}: {', '.join([self.subject, *told])}"]
        found += [f"  {line}" for line in self.differences[:SHOWN]]
        if len(self.differences) > SHOWN:
            found.append(f"  and {len(self.differences) - SHOWN} more")
        found += [f"  note: {line}" for line in self.notes]
        return list(map(printable, found))


def printable(text: str) -> str:
    """Return `text` with everything escaped that a terminal would act on or could not show."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


class BundleMember(NamedTuple):
    """Something in a folder or an archive; what is neither file nor folder cannot be opened."""

    name: str
    is_folder: bool
    mode: int | None
    opened: Callable[[], IO[bytes] | None] | None


class Hashing:
    """A stream that hashes and counts what is read from it."""

    def __init__(self, stream: IO[bytes], on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Read from `stream`; `on_bytes` hears how many more bytes were read."""
        self._stream = stream
        self._on_bytes = on_bytes
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Read, and hash that."""
        data = self._stream.read(size)
        self._digest.update(data)
        self.size += len(data)
        self._on_bytes(len(data))
        return data

    def sha256(self) -> str:
        """Read what is left; return the digest of everything."""
        while self.read(CHUNK_BYTES):
            pass
        return self._digest.hexdigest()


class Tree:
    """The files of a bundle, wherever they lie, and the bytes of its manifest and lists."""

    def __init__(self) -> None:
        """Begin empty."""
        self.files: dict[str, FileEntry] = {}
        self.papers: dict[str, bytes] = {}
        self._size = 0
        self._paper_bytes = 0
        self._members = 0

    def take(self, members: Iterable[BundleMember], report: Report, prefix: str = "") -> Tree:
        """Hash every file below `prefix`; a name that comes twice or leads out is a difference."""
        for member in members:
            self._members += 1
            if self._members > MOST_MEMBERS:
                raise ValueError(f"it holds more than {MOST_MEMBERS} members")
            name = member.name
            if name.startswith("./"):
                name = name[2:]
            if name.startswith(prefix):
                self._take_one(name[len(prefix) :].rstrip("/"), member, report)
        return self

    def _take_one(self, name: str, member: BundleMember, report: Report) -> None:
        is_root = member.is_folder and name in ("", ".")
        if not is_root and not is_inside(name):
            report.differ("extra", name, "it leads out of the bundle")
        elif member.is_folder:
            if (member.mode or 0) & OTHERS_WRITE:
                report.differ("changed", name, f"folder of mode {member.mode:04o}")
        elif name in self.files:
            report.differ("extra", name, "it is there twice")
        elif member.opened is None:
            report.differ("extra", name, "neither a file nor a folder")
        else:
            if member.mode is not None and member.mode & UNSAFE:
                report.differ("changed", name, f"mode {member.mode:04o}")
            self._add(name, member, report.on_bytes)

    def _add(self, name: str, member: BundleMember, on_bytes: Callable[[int], None]) -> None:
        is_paper = name == MANIFEST or name.startswith(f"{MANIFESTS}/")
        stream = member.opened() if member.opened else None
        with stream or io.BytesIO() as data:
            whole, kept = Hashing(data, on_bytes), b""
            while chunk := whole.read(CHUNK_BYTES):
                self._size += len(chunk)
                if self._size > MOST_BYTES:
                    raise ValueError(f"it holds more than {MOST_BYTES} bytes")
                if is_paper:
                    self._paper_bytes += len(chunk)
                    if self._paper_bytes > MOST_PAPER_BYTES:
                        raise ValueError(f"its lists hold more than {MOST_PAPER_BYTES} bytes")
                    kept += chunk
            sha256 = whole.sha256()
        mode = NO_MODE if member.mode is None else member.mode
        self.files[name] = FileEntry(path=name, mode=mode, size=whole.size, sha256=sha256)
        if is_paper:
            self.papers[name] = kept

    def compare(self, report: Report) -> None:
        """Compare with the manifest inside, and record each difference."""
        if MANIFEST not in self.papers:
            report.differ("missing", MANIFEST, "so nothing inside can be compared")
            return
        wanted = self._wanted(report)
        for path, other in collisions(sorted(self.files.keys() | wanted.keys())):
            report.differ("extra", path, f"it and {other!r} are one name on some systems")
        for path in sorted(wanted.keys() - self.files.keys()):
            report.differ("missing", path)
        for path in sorted(self.files.keys() - wanted.keys()):
            report.differ("extra", path)
        for path in sorted(self.files.keys() & wanted.keys()):
            detail = difference(self.files[path], wanted[path])
            if detail:
                report.differ("changed", path, detail)
        report.files += len(self.files)
        report.size += sum(entry.size for entry in self.files.values())

    def _wanted(self, report: Report) -> dict[str, FileEntry]:
        """Return every file that the manifest asks for; a list that is not its own is reported."""
        manifest = report.manifest = decode(self.papers[MANIFEST])
        report.notes += [f"not for release: {reason}" for reason in manifest.unreleasable]
        listed = [self.files[MANIFEST], *manifest.documents]
        if not manifest.components:
            report.differ("missing", MANIFESTS, f"{MANIFEST} lists no component")
        for component in manifest.components:
            name = f"{MANIFESTS}/{component.name}.json"
            found = self.files.get(name)
            if found is None:
                report.differ("missing", name)
                continue
            if found.sha256 != component.digest:
                report.differ("changed", name, f"{MANIFEST} names another list of files")
            listed += [found, *decode_entries(self.papers[name])]
        wanted = {}
        for entry in listed:
            if entry.path in wanted:
                report.differ("extra", entry.path, "it is listed twice")
            wanted[entry.path] = entry
        return wanted


def difference(found: FileEntry, wanted: FileEntry) -> str:
    """Return in words how a file is not the one that was wanted; nothing if it is."""
    if found.size != wanted.size:
        return f"{found.size} bytes instead of {wanted.size}"
    if found.sha256 != wanted.sha256:
        return f"sha256 {found.sha256} instead of {wanted.sha256}"
    if found.mode != NO_MODE and (found.mode ^ wanted.mode) & RUNS:
        return "executable" if found.mode & RUNS else "not executable"
    return ""


def collisions(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each path that is an earlier one where case or Unicode's spelling does not count."""
    seen: dict[str, str] = {}
    for path in paths:
        place = path
        while place:
            other = seen.setdefault(unicodedata.normalize("NFC", place).casefold(), place)
            if other != place:
                yield place, other
            place = place.rpartition("/")[0]


def folder_members(root: Path) -> Iterator[BundleMember]:
    """Yield what lies below `root`, each folder before what is in it, as deep as it may be."""
    waiting = below(root, "")
    while waiting:
        name, entry = waiting.pop()
        kind, mode = kind_of(entry), None
        if os.name != "nt":
            mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
        if kind == FOLDER:
            yield BundleMember(name, True, mode, None)
            waiting += below(root, name)
        else:
            opened = None if kind else functools.partial(io.FileIO, entry.path)
            yield BundleMember(name, False, mode, opened)


class HeaderGauge:
    """A stream that gives no more than it is allowed, so that no header can fill memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Allow a header of `stream`, and those that extend it."""
        self._stream = stream
        self._left = MOST_HEADER_BYTES

    def allow(self, size: int) -> None:
        """Allow a member's data and the header behind it."""
        self._left = size + MOST_HEADER_BYTES

    def read(self, size: int) -> bytes:
        """Read. Raises ValueError."""
        if self._left <= 0:
            raise ValueError(f"a header takes more than {MOST_HEADER_BYTES} bytes")
        data = self._stream.read(size)
        self._left -= len(data)
        return data


def tar_members(stream: IO[bytes]) -> Iterator[BundleMember]:
    """Yield what a tar holds, in its order; each is to be read before the next."""
    gauge = HeaderGauge(stream)
    with tarfile.open(fileobj=cast("IO[bytes]", gauge), mode="r|") as tar:
        while (info := tar.next()) is not None:
            gauge.allow(max(info.size, 0))
            # It would remember every member.
            tar.members = []  # type: ignore[attr-defined]
            # A sparse file may say that it has no end.
            is_file = info.isreg() and not info.issparse()
            opened = functools.partial(tar.extractfile, info) if is_file else None
            yield BundleMember(info.name, info.isdir(), info.mode, opened)


def zip_members(stream: IO[bytes]) -> Iterator[BundleMember]:
    """Yield what a zip holds."""
    with zipfile.ZipFile(stream) as packed:
        for info in packed.infolist():
            mode = info.external_attr >> 16
            is_file = stat.S_IFMT(mode) in (0, stat.S_IFREG)
            opened = functools.partial(packed.open, info) if is_file else None
            yield BundleMember(info.filename, info.is_dir(), stat.S_IMODE(mode), opened)


class Parts(io.RawIOBase):
    """Files that lie one behind the other, read as one."""

    def __init__(self, paths: list[Path]) -> None:
        """Open nothing yet."""
        self._paths = paths
        self._sizes = [path.stat().st_size for path in paths]
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go somewhere; return where that is."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: sum(self._sizes)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as the class above has it
        """Read what one part still has."""
        offset = self._at
        for path, size in zip(self._paths, self._sizes):
            if offset < size:
                with path.open("rb") as stream:
                    stream.seek(offset)
                    data = stream.read(len(buffer))
                buffer[: len(data)] = data
                self._at += len(data)
                return len(data)
            offset -= size
        return 0


def opened(path: Path) -> IO[bytes]:
    """Return the bytes of a file, or of the parts that begin with `path`."""
    if not PART.fullmatch(path.name):
        return path.open("rb")
    parts: list[Path] = []
    while (part := path.with_suffix(f".{len(parts) + 1:03}")).is_file():
        parts.append(part)
    return io.BufferedReader(Parts(parts), CHUNK_BYTES)


@contextlib.contextmanager
def unzstd(packed: IO[bytes]) -> Iterator[IO[bytes] | None]:
    """Give what a zstd stream holds; None where nothing here can decompress it.

    Raises ValueError if it is damaged.
    """
    try:
        with _unzstd(packed) as stream:
            yield stream
    except Exception as error:
        # Each module has an error of its own, and this one may not even be there to be named.
        if type(error).__name__ != "ZstdError":
            raise
        raise ValueError(str(error)) from error


@contextlib.contextmanager
def _unzstd(packed: IO[bytes]) -> Iterator[IO[bytes] | None]:
    if standard := module("compression.zstd"):
        with standard.open(packed, "rb") as stream:
            yield stream
    elif library := module("zstandard"):
        decompressor = library.ZstdDecompressor()
        with decompressor.stream_reader(
            packed, read_size=CHUNK_BYTES, read_across_frames=True
        ) as stream:
            yield io.BufferedReader(stream, CHUNK_BYTES)
    elif program := shutil.which("zstd"):
        with unzstd_by(program, packed) as stream:
            yield stream
    else:
        yield None


def module(name: str) -> Any:  # noqa: ANN401 - a module has any names
    """Return a module, None where it cannot be imported."""
    with contextlib.suppress(ImportError):
        return importlib.import_module(name)
    return None


@contextlib.contextmanager
def unzstd_by(program: str, packed: IO[bytes]) -> Iterator[IO[bytes]]:
    """Give what the program zstd makes of a stream. Raises ValueError if it is damaged."""
    # It keeps silent by itself: the smallest of machines have no /dev/null to send its words to.
    command = [program, "-dcqq"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        feeder = threading.Thread(target=feed, args=(packed, run.stdin), daemon=True)
        feeder.start()
        try:
            yield cast("IO[bytes]", run.stdout)
            if run.wait():
                raise ValueError("the zstd stream is damaged")
        finally:
            run.kill()
            feeder.join()


def feed(packed: IO[bytes], sink: IO[bytes]) -> None:
    """Copy everything, as far as it is wanted."""
    with contextlib.suppress(OSError), sink:
        shutil.copyfileobj(packed, sink, CHUNK_BYTES)


class ImageLayout:
    """An image's archive: its blobs by digest, and the bundles in its layers."""

    def __init__(self, tar: tarfile.TarFile, report: Report) -> None:
        """Look at nothing yet."""
        self._tar = tar
        self._report = report
        self._names = {info.name: info for info in tar if info.isreg()}
        self._used = {"oci-layout", "index.json", MANIFEST}
        self._images: list[tuple[str, list[str]]] = []

    def documents(self) -> Iterator[dict[str, Any]]:
        """Yield what the index names, directly or not, each compared with its digest."""
        waiting = json.load(self._tar.extractfile("index.json") or io.BytesIO())["manifests"]
        seen = set()
        while waiting:
            named = waiting.pop(0)
            if named["digest"] in seen:  # by itself, if its digest is wrong
                continue
            seen.add(named["digest"])
            document = json.load(self._blob(named))
            waiting += document.get("manifests", [])
            yield document

    def compare(self) -> None:
        """Compare everything with the digests that name it, and record each difference."""
        for document in self.documents():
            if "layers" in document:
                self._compare_layers(document)
        self._compare_docker()
        for path in sorted(self._names.keys() - self._used):
            self._report.differ("extra", path)

    def _compare_docker(self) -> None:
        """Compare what `docker load` reads, which is a list of its own, with the images."""
        stream = self._tar.extractfile(MANIFEST) if MANIFEST in self._names else None
        if stream is None:
            return
        with stream:
            named = [(one["Config"], one["Layers"]) for one in json.load(stream)]
        if named != self._images:
            self._report.differ("changed", MANIFEST, "it names other layers than the index does")

    def _compare_layers(self, document: dict[str, Any]) -> None:
        layers = [blob_path(layer) for layer in document["layers"]]
        self._images.append((blob_path(document["config"]), layers))
        tree = Tree()
        diffs = json.load(self._blob(document["config"]))["rootfs"]["diff_ids"]
        if len(diffs) != len(document["layers"]):
            self._report.differ("changed", "the configuration", "it names other layers")
        for layer, diff in zip(document["layers"], diffs):
            whole = Hashing(cast("IO[bytes]", gzip.GzipFile(fileobj=self._blob(layer))))
            tree.take(tar_members(cast("IO[bytes]", whole)), self._report, PLACE)
            # What follows the tar's end is part of the digest, too.
            if f"sha256:{whole.sha256()}" != diff:
                self._report.differ("changed", layer["digest"], f"unpacked it is not {diff}")
        tree.compare(self._report)

    def _blob(self, named: dict[str, Any]) -> IO[bytes]:
        """Return the bytes that a descriptor names, compared with it."""
        path = blob_path(named)
        self._used.add(path)
        data = self._tar.extractfile(self._names[path]) if path in self._names else None
        if data is None:
            self._report.differ("missing", path)
            return io.BytesIO()
        whole = Hashing(data, self._report.on_bytes)
        sha256 = whole.sha256()
        if f"sha256:{sha256}" != named["digest"]:
            self._report.differ("changed", path, f"sha256 {sha256}")
        if whole.size != named["size"]:
            self._report.differ("changed", path, f"{whole.size} bytes, not {named['size']}")
        data.seek(0)
        return data


def blob_path(named: dict[str, Any]) -> str:
    """Return where an image's archive has what a descriptor names."""
    return "blobs/" + str(named["digest"]).replace(":", "/")


def check(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> list[Report]:
    """Return a report for everything that `path` is or holds. Raises ArgumentError."""
    if path.is_dir():
        if (path / SUMS).is_file():
            return check_release(path, on_bytes)
        if not (path / MANIFEST).is_file():
            raise ArgumentError(f"{path} is neither a release ({SUMS}) nor a bundle ({MANIFEST})")
        report = Report(path.name, on_bytes)
        with readable(report):
            Tree().take(folder_members(path), report).compare(report)
        return [report]
    if not path.is_file():
        raise ArgumentError(f"there is nothing at {path}")
    report = Report(path.name, on_bytes)
    sums = read_sums(path.parent / SUMS) if (path.parent / SUMS).is_file() else {}
    part = PART.fullmatch(path.name)
    for name, wanted in sums.items():
        if name == path.name or (part and PART.fullmatch(name) and name[:-4] == part.group(1)):
            compare_sum(path.parent, name, wanted, report)
    if sums and path.name not in sums:
        report.differ("extra", path.name, f"{SUMS} does not name it")
    if not look_inside(path, report) and path.name not in sums:
        raise ArgumentError(f"{path.name} is no {', '.join(ARCHIVES)}, and no {SUMS} names it")
    return [report]


def look_inside(path: Path, report: Report) -> bool:
    """Compare what an archive or an image holds; return whether `path` is one."""
    part = PART.fullmatch(path.name)
    name = part.group(1) if part else path.name
    if not name.endswith(ARCHIVES) or (part and part.group(2) != "001"):
        return False

    with readable(report), opened(path) as stream:
        if name.endswith(".oci.tar"):
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                ImageLayout(tar, report).compare()
        elif name.endswith(".zip"):
            Tree().take(zip_members(stream), report).compare(report)
        else:
            compare_tar_zst(stream, report)
    return True


def compare_tar_zst(packed: IO[bytes], report: Report) -> None:
    """Compare the bundle in a .tar.zst. Raises ValueError if anything lies behind its tar."""
    with unzstd(packed) as stream:
        if stream is None:
            report.notes.append(f"only its sha256 was compared: {NO_ZSTD}")
            return
        Tree().take(tar_members(stream), report).compare(report)
        # The program zstd would wait for a reader, and a module leaves it unread.
        if stream.read(1):
            raise ValueError("something lies behind the end of its tar")


@contextlib.contextmanager
def readable(report: Report) -> Iterator[None]:
    """Take what cannot be read for a difference."""
    try:
        yield
    except UNREADABLE as error:
        report.differ("changed", report.subject, f"it cannot be read: {error!r:.200}")


def check_release(folder: Path, on_bytes: Callable[[int], None]) -> list[Report]:
    """Compare a release with SHA256SUMS and its statement, and look into every archive."""
    whole = Report(SUMS, on_bytes)
    sums = read_sums(folder / SUMS)
    for name, wanted in sums.items():
        compare_sum(folder, name, wanted, whole)
    for path in sorted(folder.iterdir()):
        if path.name not in sums and path.name != SUMS:
            whole.differ("extra", path.name)
    whole.files = len(sums)
    whole.size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    reports = [whole]
    for name in sorted(sums):
        report = Report(name, on_bytes)
        if name.endswith(".provenance.json") and (folder / name).is_file():
            with readable(report):
                check_statement(folder / name, sums, report)
            reports.append(report)
        elif (folder / name).is_file() and look_inside(folder / name, report):
            reports.append(report)
    return reports


def check_statement(path: Path, sums: dict[str, str], report: Report) -> None:
    """Compare the subjects of a provenance statement with what SHA256SUMS says."""
    statement = json.loads(path.read_bytes().decode("utf-8"))
    if (statement["_type"], statement["predicateType"]) != (STATEMENT, PROVENANCE):
        report.differ("changed", path.name, "it is no statement of provenance")
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    for name in sorted(sums.keys() - subjects.keys() - {path.name}):
        report.differ("missing", name, "the statement does not name it")
    for name in sorted(subjects):
        if sums.get(name) != subjects[name]:
            report.differ("changed", name, f"the statement says sha256 {subjects[name]}")
    report.files = len(subjects)


def read_sums(path: Path) -> dict[str, str]:
    """Return the sha256 of each file that the list at `path` names. Raises ArgumentError."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_PAPER_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{path} is not a list of checksums") from error
    found = [SUM.fullmatch(line) for line in text.splitlines()]
    sums = {match.group(2): match.group(1) for match in found if match}
    if not sums or len(sums) < len(found):
        raise ArgumentError(f"{path} is not a list of checksums")
    return sums


def compare_sum(folder: Path, name: str, wanted: str, report: Report) -> None:
    """Compare one file with its checksum."""
    path = folder / name
    if not path.exists():
        report.differ("missing", name)
        return
    if not path.is_file():
        report.differ("changed", name, "neither a file nor a link to one")
        return
    try:
        with path.open("rb") as stream:
            found = Hashing(stream, report.on_bytes).sha256()
    except OSError as error:
        report.differ("changed", name, f"it cannot be read: {error.strerror}")
        return
    if found != wanted:
        report.differ("changed", name, f"sha256 {found} instead of {wanted}")


def main(arguments: list[str]) -> int:
    """Check each path of the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="+", type=Path)
    found: list[Report] = []
    for path in parser.parse_args(arguments).path:
        try:
            reports = check(path)
        except ArgumentError as error:
            sys.stderr.write(f"error: {printable(str(error))}\n")
            return USAGE
        sys.stdout.write("".join(f"{line}\n" for one in reports for line in one.lines()))
        found += reports
    return DIFFERENT if any(report.differences for report in found) else 0


if __name__ == "__main__":
    for output in (sys.stdout, sys.stderr):
        output.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:]))
