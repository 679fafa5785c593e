"""Locked wheels, unpacked into a bundle's site-packages: same wheel, same bytes, on any machine.

What a bundle cannot use is left out: console scripts (their first line is an absolute path),
headers, bytecode that came along, `direct_url.json`. RECORD lists what is there, sorted. It never
lists the bytecode the builder adds: the bundle's manifest does.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import os
import re
import stat
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from installer import install as install_wheel
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry, parse_record_file
from installer.sources import WheelFile

from bundler.assembly.path_rules import ArchiveLimits, Member, MemberCheck, MemberKind, keep_all
from bundler.atomic import EXECUTABLE, PLAIN, disk_error, replace
from bundler.errors import IntegrityError, PolicyError
from sidecar.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from typing import BinaryIO

    from installer.scripts import ScriptSection
    from installer.sources import WheelContentElement
    from installer.utils import Scheme

    from bundler.targets import Target

INSTALLER = b"sidecar\n"
ENCRYPTED = 0x1
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# `site` imports these by itself: a wheel with one runs code in every start.
STARTUP_MODULES = re.compile(r"(site|user)customize(\.[^/]*)?(/__init__\.[^/]*)?")
RUNS_CODE = re.compile(rb"^\s*import[ \t]", re.MULTILINE)
ABSOLUTE_LINE = re.compile(rb"^\s*(/|\\|[A-Za-z]:)", re.MULTILINE)
LICENCE = re.compile(
    r"(licen[cs]es?|copying|copyright|notices?|patents)([-_.][^/]*)?", re.IGNORECASE
)
CODE_SUFFIXES = frozenset({".py", ".pyi", ".pyc", ".h", ".json", ".so", ".pyd", ".dll"})
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, KeyError)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledWheel:
    """What a wheel became. Paths are POSIX and relative to site-packages, sorted.

    `files` is all of them, RECORD included, and `size` their bytes; `modes` is what the wheel says
    of theirs, and no file has been given yet. `startup` are files that run code or change the path
    at every start; `left_out` are the wheel's other
    files, with sizes; scripts and headers, which go nowhere, by their names in the wheel.
    """

    name: str
    version: str
    dist_info: str
    files: tuple[str, ...]
    modes: Mapping[str, int]
    size: int
    startup: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...] = ()


def install(
    wheel: Path,
    site_packages: Path,
    *,
    target: Target,
    filename: str | None = None,
    limits: ArchiveLimits | None = None,
    keep: Callable[[str], bool] = keep_all,
    longest: int | None = None,
) -> InstalledWheel:
    """Unpack the file `wheel` into `site_packages`, a folder of a bundle for `target`.

    `filename` is the wheel's own name where the file is stored under another. Every name in the
    wheel is checked before anything is written; a wheel that fails later is taken out again.
    `keep` is asked with a path in site-packages, and what it drops is never written (the metadata
    always is); nor are licences whose path has more than `longest` characters: NOTICES.txt has
    their texts, from the wheel. Raises IntegrityError where contents differ from RECORD;
    PolicyError for hostile names, two wheels that disagree about one path, and startup files;
    DiskError.
    """
    name = filename or wheel.name
    destination = SitePackages(
        site_packages, name, target, drop=lambda path: _is_too_long(path, longest)
    )
    try:
        with opened(wheel, name, limits=limits) as archive:
            source = CheckedWheel(archive, keep)
            _check_record(source, name)
            _check_startup(archive, source, keep)
            site_packages.mkdir(parents=True, exist_ok=True)
            install_wheel(source, destination, {"INSTALLER": INSTALLER})
            left_out = tuple(sorted(_left_out(archive, destination.files, target)))
    except BaseException as error:
        destination.undo()
        if isinstance(error, OSError):
            raise disk_error(error, site_packages, purpose=name) from error
        raise
    files = tuple(sorted(destination.files))
    return InstalledWheel(
        name=source.distribution,
        version=source.version,
        dist_info=source.dist_info_dir,
        files=files,
        modes=destination.modes,
        size=sum(destination.files.values()),
        startup=tuple(path for path in files if is_startup(path)),
        left_out=left_out,
    )


def _left_out(
    archive: zipfile.ZipFile, files: Collection[str], target: Target
) -> Iterator[tuple[str, int]]:
    for info in archive.infolist():
        place = place_of(info.filename, target)
        if not info.is_dir() and (place is None or place not in files):
            yield place or info.filename, info.file_size


def place_of(member: str, target: Target) -> str | None:
    """Return where a wheel's member goes, from site-packages, or None for scripts and headers."""
    folder, slash, rest = member.partition("/")
    if not slash or not folder.endswith(".data"):
        return member
    scheme, _, inner = rest.partition("/")
    match scheme:
        case "purelib" | "platlib":
            return inner
        case "data":
            # Its place is python/, above site-packages.
            return "../" * target.site_packages.count("/") + inner
        case _:
            return None


def written(
    wheel: Path, *, keep: Callable[[str], bool] = keep_all, longest: int | None = None
) -> Iterator[str]:
    """Yield the paths that `install` writes for a wheel, and some that it passes over.

    They are names in the archive, unchecked, data files under the folder they have there.
    """
    with _opened(wheel, wheel.name) as archive:
        for path in archive.namelist():
            is_kept = ".dist-info/" in path or keep(path)
            if is_kept and not path.endswith("/") and not _is_too_long(path, longest):
                yield path


def is_startup(path: str) -> bool:
    """Return whether Python reads `path`, relative to site-packages, at every start."""
    is_path_file = "/" not in path and path.endswith(".pth")
    return is_path_file or STARTUP_MODULES.fullmatch(path) is not None


def is_licence(path: str) -> bool:
    """Return whether the file at `path` is a licence's text by its place or its name."""
    pure = PurePosixPath(path)
    in_metadata = ".dist-info/licenses/" in f"/{path}" or ".dist-info/license_files/" in path
    return in_metadata or (
        LICENCE.fullmatch(pure.name) is not None and pure.suffix.lower() not in CODE_SUFFIXES
    )


def _is_too_long(path: str, longest: int | None) -> bool:
    return longest is not None and len(path) > longest and is_licence(path)


def rewrite_record(dist_info: Path, site_packages: Path) -> tuple[str, ...]:
    """Make RECORD in `dist_info` true again after files were removed or stripped; return its paths.

    Lines of missing files go, hashes and sizes are read from the tree, the order is by path.
    Bytecode is never listed. The file appears by a rename.
    """
    record = dist_info / "RECORD"
    entries = {}
    for path, _, _ in parse_record_file(record.read_text(encoding="utf-8").splitlines()):
        file = site_packages / path
        if file == record:
            entries[path] = RecordEntry(path, None, None)
        elif file.is_file() and "__pycache__" not in file.parts:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").digest()
            entries[path] = RecordEntry(
                path, Hash("sha256", base64_digest(digest)), file.stat().st_size
            )
    beside = record.with_name("RECORD.new")
    beside.write_bytes(record_bytes(entries))
    replace(beside, record)
    return tuple(sorted(entries))


@contextmanager
def opened(
    wheel: Path, name: str, *, limits: ArchiveLimits | None = None
) -> Iterator[zipfile.ZipFile]:
    """Open `wheel` under its own name, once every member was checked.

    What is read of it may fail later, and is reported in the same way. Raises IntegrityError,
    PolicyError.
    """
    with _opened(wheel, name) as archive:
        _check_members(archive, name, wheel.stat().st_size, limits or ArchiveLimits())
        yield archive


@contextmanager
def _opened(wheel: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """Open `wheel` under its own name. Raises IntegrityError, PolicyError."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.filename = name
            yield archive
    except (InstallerError, AssertionError) as error:
        raise PolicyError(
            f"{name} is not a wheel that can be installed",
            why=str(error),
            next_step="lock another build or release of the package",
        ) from error
    except UNREADABLE as error:
        raise IntegrityError(
            f"{name} cannot be read",
            why=f"{type(error).__name__}: {error}",
            next_step="fetch it again",
        ) from error


def _check_members(
    archive: zipfile.ZipFile, name: str, packed_bytes: int, limits: ArchiveLimits
) -> None:
    """Check every member. Raises PolicyError."""
    check = MemberCheck(archive=name, limits=limits, packed_bytes=packed_bytes)
    for info in archive.infolist():
        if info.orig_filename != info.filename:
            check.refuse(info.orig_filename, "its name has a NUL or a backslash")
        if info.flag_bits & ENCRYPTED or info.compress_type not in METHODS:
            check.refuse(info.filename, "it is encrypted, or packed in a way wheels do not use")
        mode = info.external_attr >> 16
        kind = MemberKind.FOLDER if info.is_dir() else MemberKind.FILE
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
            check.refuse(info.filename, "it is a link or a device; a wheel holds files only")
        path = check.admit(
            Member(name=info.filename, kind=kind, size=info.file_size, mode=stat.S_IMODE(mode))
        )
        check.compare(info.filename, info.file_size, info.compress_size)
        if kind is MemberKind.FILE:
            check.claim(info.filename, path)


def _check_record(source: CheckedWheel, name: str) -> None:
    """Raise IntegrityError unless RECORD lists every file with a hash."""
    # Read first: the check below would hide what the installer says of a misnamed dist-info.
    record = f"{source.dist_info_dir}/RECORD"
    try:
        source.validate_record(validate_contents=False)
    except source.validation_error as error:
        issues = getattr(error, "issues", [str(error)])
        raise IntegrityError(
            f"{name} does not agree with its own {record}",
            why=str(issues[0]),
            next_step="lock another build or release of the package",
        ) from error


def _check_startup(
    archive: zipfile.ZipFile, source: CheckedWheel, keep: Callable[[str], bool]
) -> None:
    """Raise PolicyError if a file runs code, or adds a fixed path, whenever Python starts."""
    roots = tuple(f"{source.data_dir}/{scheme}/" for scheme in ("purelib", "platlib"))
    for info in archive.infolist():
        place = info.filename
        for root in roots:
            place = place.removeprefix(root)
        if not (is_startup(place) and keep(place)):
            continue
        data = archive.read(info)
        if not place.endswith(".pth") or RUNS_CODE.search(data) or ABSOLUTE_LINE.search(data):
            raise PolicyError(
                f"{archive.filename} brings {place}, which acts on every start of Python",
                why="it runs code or adds an absolute path before the service is reached",
                next_step="take the package out of pdm.lock, or remove the file in recipe.toml",
            )


# What a bundle never holds, wherever a wheel carries it.
SCHEMES_LEFT_OUT = frozenset({"scripts", "headers"})
SCRIPT_FOLDERS = ("bin/", "Scripts/")
METADATA_LEFT_OUT = frozenset(
    {"direct_url.json", "INSTALLER", "REQUESTED", "RECORD.jws", "RECORD.p7s"}
)


class CheckedWheel(WheelFile):
    """A wheel without console scripts and bytecode, each file checked against RECORD as it is read.

    One pass decompresses, hashes and writes: torch alone would take seconds more in two.
    """

    def __init__(self, archive: zipfile.ZipFile, keep: Callable[[str], bool]) -> None:
        super().__init__(archive)
        self._keep = keep

    @property
    def dist_info_filenames(self) -> list[str]:
        """Hide the entry points from the installer, which would make scripts of them."""
        return [name for name in super().dist_info_filenames if name != "entry_points.txt"]

    def get_contents(self) -> Iterator[WheelContentElement]:
        """Yield the members a bundle wants. Raises IntegrityError from a stream's last read."""
        left_out = {f"{self.dist_info_dir}/{name}" for name in METADATA_LEFT_OUT}
        for record, stream, is_executable in super().get_contents():
            path, stated, _ = record
            if path in left_out or "__pycache__" in path.split("/"):
                continue
            if not path.startswith(f"{self.dist_info_dir}/") and not self._keep(path):
                continue
            checked = _Checked(stream, path, Hash.parse(stated)) if stated else stream
            yield record, cast("BinaryIO", checked), is_executable


class _Checked:
    """A stream that compares its bytes with a hash when they have all been read."""

    def __init__(self, stream: BinaryIO, path: str, stated: Hash) -> None:
        self._stream = stream
        self._path = path
        self._stated = stated
        self._hash = hashlib.new(stated.name)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes. Raises IntegrityError at the end."""
        data = self._stream.read(size)
        self._hash.update(data)
        if not data and base64_digest(self._hash.digest()) != self._stated.value:
            raise IntegrityError(
                f"{self._path} is not the file its wheel's RECORD lists",
                why=f"RECORD says {self._stated}",
                next_step="lock another build or release of the package",
            )
        return data


class SitePackages(WheelDestination):
    """A site-packages folder that takes no scripts and overwrites nothing.

    What `drop` says of a path in it, `..` included, is neither written nor recorded.
    """

    def __init__(
        self, site_packages: Path, wheel: str, target: Target, drop: Callable[[str], bool]
    ) -> None:
        self._site_packages = site_packages
        self._wheel = wheel
        self._drop = drop
        # From site-packages up to python/, where data files go.
        self._up = "../" * target.site_packages.count("/")
        self._stdlib = f"{target.stdlib.removeprefix('python/')}/".casefold()
        self._shared: set[str] = set()
        self.files: dict[str, int] = {}
        self.modes: dict[str, int] = {}

    def write_script(
        self, name: str, module: str, attr: str, section: ScriptSection
    ) -> RecordEntry:
        """Refuse: the source hides every entry point."""
        raise NotImplementedError

    def write_file(
        self,
        scheme: Scheme,
        path: str | os.PathLike[str],
        stream: BinaryIO,
        is_executable: bool,
    ) -> RecordEntry:
        """Write one file, hashed on the way; its mode is noted, and given to no file yet.

        Raises IntegrityError, PolicyError, OSError.
        """
        place = PurePosixPath(path).as_posix()
        if scheme == "data":
            if place.casefold().startswith(self._stdlib):
                raise PolicyError(
                    f"{self._wheel} would put {place} into the standard library",
                    why="a wheel's data files may lie beside it, not in it",
                    next_step="leave the package out of pdm.lock",
                )
            if place.startswith(SCRIPT_FOLDERS):
                return RecordEntry(place, None, None)
            place = f"{self._up}{place}"
        elif scheme in SCHEMES_LEFT_OUT:
            return RecordEntry(place, None, None)
        if self._drop(place):
            return RecordEntry(place, None, None)
        file = Path(os.path.normpath(self._site_packages / place))
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = self._copy(stream, file, place)
        self.modes[place] = EXECUTABLE if is_executable else PLAIN
        return RecordEntry(place, Hash("sha256", base64_digest(digest)), self.files[place])

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        """Write RECORD."""
        del scheme
        entries = {record.path: record for _, record in records if record.path in self.files}
        entries[record_file_path] = RecordEntry(record_file_path, None, None)
        data = record_bytes(entries)
        file = self._site_packages / record_file_path
        with file.open("xb") as stream:
            self.files[record_file_path] = len(data)
            stream.write(data)

    def undo(self) -> None:
        """Remove what was written."""
        for place in self.files.keys() - self._shared:
            file = Path(os.path.normpath(self._site_packages / place))
            file.unlink(missing_ok=True)
            remove_empty(file.parent)

    def _copy(self, stream: BinaryIO, file: Path, place: str) -> bytes:
        """Copy `stream` to the new `file` and return its sha256; an old one must equal it."""
        digest = hashlib.sha256()
        try:
            output = file.open("xb")
        except FileExistsError:
            data = b"".join(iter(lambda: stream.read(CHUNK_BYTES), b""))
            if not file.is_file() or file.read_bytes() != data:
                raise PolicyError(
                    f"{self._wheel} would overwrite {place}",
                    why="another wheel or the runtime brought a different file of that name",
                    next_step="leave one of the two packages out of pdm.lock",
                ) from None
            if place not in self.files:
                self._shared.add(place)
                self.files[place] = len(data)
            return hashlib.sha256(data).digest()
        with output:
            self.files[place] = 0
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                output.write(chunk)
                self.files[place] += len(chunk)
        return digest.digest()


def base64_digest(digest: bytes) -> str:
    """Return `digest` as RECORD spells it."""
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def record_bytes(entries: Mapping[str, RecordEntry]) -> bytes:
    """Return a RECORD file, sorted by path."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(entries[path].to_row() for path in sorted(entries))
    return text.getvalue().encode()


def remove_empty(folder: Path) -> None:
    """Remove `folder` and those above it as long as they are empty."""
    with contextlib.suppress(OSError):
        while True:
            folder.rmdir()
            folder = folder.parent
