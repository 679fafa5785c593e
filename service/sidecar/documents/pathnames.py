"""How the paths of files may be spelled, here and on Windows, and names that are spelled otherwise.

One name can be several strings: é is one character (NFC), or e and an accent (NFD), as files have
it that came from a Mac. Linux takes them for two files.
"""

from __future__ import annotations

import os
import re
import unicodedata
from http import HTTPStatus
from pathlib import Path, PureWindowsPath

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
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-path", f"path: {what}", next_step=step)


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
    found: str | None = None
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count == MAX_ENTRIES:
                return None
            if is_same(entry.name, name):
                if found is not None:
                    return None
                found = entry.name
    return found
