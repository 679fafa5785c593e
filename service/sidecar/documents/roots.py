"""The folders that /embed-file may read from, and the only way into them."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PureWindowsPath

from sidecar.documents.documents import suffix_of
from sidecar.problems import Problem

MAX_PATH_CHARS = 4_096
MAX_NAME_BYTES = 255
_CONTROL = re.compile(r"[\x00-\x1f]")
_STREAM = re.compile(r"\.[^.:/\\]+:[^:/\\]*(:[^:/\\]*)?$")
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_OPEN = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


def _unusable(what: str) -> Problem:
    step = "give the absolute path of a file in an allowed folder"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-path", what, next_step=step)


def _not_found() -> Problem:
    # One answer for outside and for missing, so that nobody can ask what exists.
    what = "there is no such file in the allowed folders"
    step = "check the path, or start the service with --allow-dir FOLDER"
    return Problem(HTTPStatus.NOT_FOUND, "no-file", what, next_step=step)


def _not_regular() -> Problem:
    return _unusable("path: it does not name a regular file")


def check_spelling(path: str) -> None:
    """Raise Problem 422 for a path that no system should be asked about.

    The same rules hold everywhere: device names and streams mean something on Windows only, and
    an app should not work on one system and be unsafe on another.
    """
    if not path or len(path) > MAX_PATH_CHARS or _CONTROL.search(path):
        message = "path: it is empty, too long, or has control characters"
        raise _unusable(message)
    try:
        names = re.split(rb"[/\\]", path.encode("utf-8"))
    except UnicodeEncodeError as error:
        message = "path: it is not valid text"
        raise _unusable(message) from error
    # Asked of the system, only a folder that is there would find a name too long.
    if max(map(len, names)) > MAX_NAME_BYTES:
        message = "path: a name in it is too long"
        raise _unusable(message)
    if path.startswith(("\\\\", "//")):
        message = "path: network and device paths are not read"
        raise _unusable(message)
    last = re.split(r"[/\\]", path)[-1]
    if _STREAM.search(last) or _DEVICE.fullmatch(last.partition(".")[0].rstrip(" ")):
        message = "path: it names a device or a stream"
        raise _unusable(message)
    if os.name == "nt" and ":" in path[len(PureWindowsPath(path).drive) :]:
        message = "path: it names a stream"
        raise _unusable(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that was read, and the suffix that decides how."""

    suffix: str
    data: bytes


class Roots:
    """Reads regular files below a fixed set of folders, and nothing else."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """`folders` are resolved already."""
        self._folders = tuple(folders)

    def read(self, path: str, *, max_bytes: int) -> File:
        """Return the file at `path`; its own name says how it is read, not that of a link to it.

        Raises Problem: 403 if no folder is allowed, 422 for a path or a kind of file that is never
        read, 404 for everything outside and everything missing, 413 over `max_bytes`, 409 if
        the file changed while it was read. Survives a link swapped in after the check: every
        step down from the root is opened without following links.
        """
        if not self._folders:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "no-folder-allowed",
                "no folder is allowed for /embed-file",
                why="the service reads files only from folders named at its start",
                next_step="start it with --allow-dir FOLDER",
            )
        check_spelling(path)
        root, resolved = self._resolve(path)
        try:
            descriptor = _open_below(root, resolved)
        except OSError as error:
            if error.errno in (
                errno.ENXIO,
                errno.EISDIR,
            ):  # a socket; a folder on Windows
                raise _not_regular() from error
            if error.errno in _LIMITS:
                raise  # of the system, and nothing about the file
            raise _not_found() from error
        try:
            suffix = suffix_of(resolved.name)
            return File(suffix=suffix, data=_read_regular(descriptor, max_bytes=max_bytes))
        finally:
            os.close(descriptor)

    def _resolve(self, path: str) -> tuple[Path, Path]:
        asked = Path(path)
        if not asked.is_absolute():
            raise _not_found()
        try:
            resolved = asked.resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise _not_found() from error
        for root in self._folders:
            if resolved.is_relative_to(root):
                return root, resolved
        raise _not_found()


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
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", what, next_step=step)
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
        raise Problem(HTTPStatus.CONFLICT, "file-changed", what, next_step="try again")
    return bytes(data)
