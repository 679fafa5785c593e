"""The folders that /embed-file may read from, and the only way into them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from sidecar.documents.extraction import suffix_of
from sidecar.problems import Problem

MAX_PATH_CHARS = 4_096
MAX_NAME = 255  # bytes, on Windows units of UTF-16
# A folder of more is not looked through for another spelling.
MAX_ENTRIES = 100_000
_WINDOWS_CHARS = re.compile(r'[\x01-\x1f<>"|?*]')
_WINDOWS_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)


def unusable(what: str) -> Problem:
    """Return the problem of a path that no file is read by."""
    step = "give the absolute path of a file in an allowed folder"
    return Problem("bad-path", f"path: {what}", next_step=step)


def check_spelling(path: str, *, is_windows: bool = os.name == "nt") -> None:
    """Raise Problem 422 for a path that the system should not be asked about.

    Windows opens devices and streams, and other computers, by names; elsewhere these are names
    like any other.
    """
    if not path or len(path) > MAX_PATH_CHARS or "\0" in path:
        raise unusable("it is empty, too long, or has a NUL")
    encoding, unit = ("utf-16-le", 2) if is_windows else ("utf-8", 1)
    names = re.split(r"[/\\]", path) if is_windows else path.split("/")
    try:
        longest = max(len(name.encode(encoding)) // unit for name in names)
    except UnicodeEncodeError as error:
        raise unusable("it is not valid text") from error
    # Asked of the system, only a folder that is there would find a name too long.
    if longest > MAX_NAME:
        raise unusable("a name in it is too long")
    if is_windows:
        _check_windows(path)


def _check_windows(path: str) -> None:
    if re.match(r"[/\\]{2}", path):
        raise unusable("network and device paths are not read")
    for name in re.split(r"[/\\]", path[len(PureWindowsPath(path).drive) :]):
        if ":" in name:
            raise unusable("it names a stream")
        if _WINDOWS_DEVICE.fullmatch(name.partition(".")[0].rstrip(" ")):
            raise unusable("it names a device")
        if _WINDOWS_CHARS.search(name):
            raise unusable("it has characters that no name on Windows has")
        if name not in {".", ".."} and name.endswith((".", " ")):
            raise unusable("a name in it ends with a dot or a space, which Windows leaves out")


def has_other_spelling(path: str) -> bool:
    """Return whether the same path can be spelled in other characters."""
    forms = {unicodedata.normalize(form, path) for form in ("NFC", "NFD")}
    return forms != {path}


def is_same(one: str, other: str) -> bool:
    """Return whether two names are one, however they are spelled."""
    return unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


def find(folder: Path, name: str) -> str | None:
    """Return what `name` is called in `folder`: exactly that, or the one name that is the same.

    None if there is none, or more than one. Raises OSError.
    """
    if os.path.lexists(folder / name):
        return name
    if not has_other_spelling(name):
        return None
    with os.scandir(folder) as entries:
        some = [entry.name for entry in itertools.islice(entries, MAX_ENTRIES + 1)]
    found = [other for other in some if is_same(other, name)]
    return found[0] if len(found) == 1 and len(some) <= MAX_ENTRIES else None


_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_DENIED = (errno.EACCES, errno.EPERM)
# The last is what reading a link says that was replaced meanwhile, and Windows of a name.
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
_OPEN = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
log = logging.getLogger("sidecar.allowed_dirs")


def _not_found() -> Problem:
    # One answer for outside and for missing, so that no client can ask what exists.
    what = "there is no such file in the allowed folders"
    step = "check the path, or start the service with --allow-dir FOLDER"
    return Problem("no-file", what, next_step=step)


def _not_regular() -> Problem:
    return unusable("it is not a regular file")


def _folder_missing(number: int) -> Problem:
    return Problem(
        "folder-missing",
        f"the allowed folder that the file is in is not there ({number} of those at the start)",
        why="it was moved, or its drive or network share is not connected",
        next_step="connect it or move it back; it is used as soon as it exists",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that was read, and the suffix that decides how."""

    suffix: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """An allowed folder, by its number from 1 as they were given, and whether it is there."""

    number: int
    path: Path
    is_there: bool


class AllowedDirs:
    """Reads regular files below a fixed set of folders, and nothing else.

    A folder that is not there is used from when it is. Logs say which by its number: a path may
    tell who a user is.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        """`folders` are absolute, with the links resolved that are there."""
        self._folders = tuple(folders)
        self._are_there = dict.fromkeys(range(1, len(self._folders) + 1), True)
        self.listed()

    def listed(self) -> list[Folder]:
        """Return the folders as they are now, and log those that came or went."""
        found = [
            Folder(number=number, path=path, is_there=_is_there(path))
            for number, path in enumerate(self._folders, start=1)
        ]
        for folder in found:
            if folder.is_there != self._are_there[folder.number]:
                self._are_there[folder.number] = folder.is_there
                if folder.is_there:
                    log.info("allowed folder %d is available now", folder.number)
                else:
                    told = "allowed folder %d is missing; it is used as soon as it exists"
                    log.warning(told, folder.number)
        return found

    def read(self, path: str, *, max_bytes: int) -> File:
        """Return the file at `path`; its own name says how it is read, not that of a link to it.

        Raises Problem: 403 if no folder is allowed, 422 for a path or a kind of file that is never
        read, 404 for everything outside and everything missing, 413 over `max_bytes`, 409 if
        the file changed while it was read, 503 if its folder, the disk or a permission is what
        lacks. Survives a link swapped in after the check: every step down from the root is opened
        without following links.
        """
        if not self._folders:
            raise Problem(
                "no-folder-allowed",
                "no folder is allowed for /embed-file",
                why="the service reads files only from folders named at its start",
                next_step="start it with --allow-dir FOLDER",
            )
        check_spelling(path)
        root, resolved = self._resolve(path)
        try:
            descriptor = _open_below(root, resolved)
            try:
                suffix = suffix_of(resolved.name)
                return File(suffix=suffix, data=_read_regular(descriptor, max_bytes=max_bytes))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._blamed(error, resolved) from error

    def _resolve(self, path: str) -> tuple[Path, Path]:
        """Return the real path of what is asked for, and the folder that it is below."""
        asked = Path(path)
        if not asked.is_absolute():
            raise _not_found()
        folders = self.listed()
        roots = [folder.path for folder in folders if folder.is_there]
        lexical = Path(os.path.normpath(asked))
        try:
            found = _below(roots, asked.resolve(strict=True))
        except (RuntimeError, ValueError) as error:  # links that lead to each other
            raise _not_found() from error
        except OSError as error:
            if error.errno not in _MISSING:
                # Outside, nothing is told but that there is no such file.
                place = Path(error.filename) if isinstance(error.filename, str) else lexical
                is_inside = _below(roots, place) is not None
                raise (self._blamed(error, place) if is_inside else _not_found()) from error
            found = _respelled(roots, asked) if has_other_spelling(path) else None
        if found is not None:
            return found
        for folder in folders:
            if not folder.is_there and lexical.is_relative_to(folder.path):
                raise _folder_missing(folder.number)
        raise _not_found()

    def _blamed(self, error: OSError, path: Path) -> Exception:
        """Return what a failure to read the file at `path`, which is inside, means."""
        if error.errno in _LIMITS:
            return error  # of the system, and nothing about the file
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a socket; a folder on Windows
            return _not_regular()
        if error.errno in _DENIED:
            return Problem(
                "no-permission",
                "the service may not read the file",
                why="the system refuses it to the account that the service runs as, or another "
                "program keeps the file to itself",
                next_step="let that account read it, or send the document to /embed-file/upload",
            )
        if error.errno not in _MISSING:
            return Problem(
                "disk-error",
                "the system could not read the file from its disk",
                why=os.strerror(error.errno) if error.errno else type(error).__name__,
                next_step="check the disk, or send the request again once it is reachable",
            )
        for folder in self.listed():
            if not folder.is_there and path.is_relative_to(folder.path):
                return _folder_missing(folder.number)
        return _not_found()


def _is_there(folder: Path) -> bool:
    """Return whether `folder` is there and still the folder that it names, by no link."""
    try:
        resolved = os.path.normcase(folder.resolve(strict=True))
        return resolved == os.path.normcase(folder) and folder.is_dir()
    except (OSError, RuntimeError):
        return False


def _below(roots: Sequence[Path], resolved: Path) -> tuple[Path, Path] | None:
    """Return the root that `resolved` is in, and its path below that; None if it is in none."""
    for root in roots:
        if resolved.is_relative_to(root):
            return root, resolved
        # A file system that knows both spellings of a name gives back the one that was asked for.
        depth = len(root.parts)
        top = Path(*resolved.parts[:depth])
        if is_same(str(top), str(root)):
            with contextlib.suppress(OSError):
                if top.samefile(root):
                    return root, root.joinpath(*resolved.parts[depth:])
    return None


def _respelled(roots: Sequence[Path], asked: Path) -> tuple[Path, Path] | None:
    """Return the one file below a root that `asked` is another spelling of, None if there is none.

    No folder outside of the roots is looked into.
    """
    place, rest = _deepest(asked)
    if _below(roots, place) is None:
        named = place.joinpath(*rest)
        for root in roots:
            depth = len(root.parts)
            if is_same(str(Path(*named.parts[:depth])), str(root)):
                place, rest = root, named.parts[depth:]
                break
        else:
            return None
    for name in rest:
        try:
            called = find(place, name) if name != os.pardir else name
            if called is None:
                return None
            place = (place / called).resolve(strict=True)
        except (OSError, RuntimeError):
            return None
        if _below(roots, place) is None:
            return None
    return _below(roots, place)


def _deepest(asked: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the real path of the longest part of `asked` that is there, and the rest."""
    for parent in asked.parents:
        try:
            return parent.resolve(strict=True), asked.parts[len(parent.parts) :]
        except (OSError, RuntimeError):
            continue
    return Path(asked.anchor), asked.parts[1:]


def _open_below(root: Path, resolved: Path) -> int:
    """Return a descriptor of `resolved`, reached from `root` without following any link."""
    parts = resolved.relative_to(root).parts
    if not parts:
        raise _not_regular()
    if os.open not in os.supports_dir_fd:  # Windows
        return _open_checked(os.fspath(resolved), resolved.lstat(), folder=None)
    folder = os.open(root, _OPEN | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, _OPEN | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = below
        status = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        return _open_checked(parts[-1], status, folder=folder)
    finally:
        os.close(folder)


def _open_checked(path: str, status: os.stat_result, *, folder: int | None) -> int:
    """Return a descriptor of the regular file that `status` was asked of, and of no other."""
    if not stat.S_ISREG(status.st_mode):
        # Said before it is opened: opening a device can have effects.
        raise _not_regular()
    descriptor = os.open(path, _OPEN, dir_fd=folder)
    opened = os.fstat(descriptor)
    if not os.path.samestat(status, opened):
        os.close(descriptor)
        raise _not_found() if stat.S_ISREG(opened.st_mode) else _not_regular()
    return descriptor


def _read_regular(descriptor: int, *, max_bytes: int) -> bytes:
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        raise _not_regular()
    if before.st_size > max_bytes:
        what = f"the file is larger than {max_bytes} bytes"
        step = "split it, or send its text alone"
        raise Problem("too-large", what, next_step=step)
    data = bytearray()
    # One byte more than it should have shows that it grew.
    while len(data) <= before.st_size:
        chunk = os.read(descriptor, before.st_size + 1 - len(data))
        if not chunk:
            break
        data += chunk
    after = os.fstat(descriptor)
    if len(data) != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
        what = "the file changed while it was read"
        raise Problem("file-changed", what, next_step="try again")
    return bytes(data)
