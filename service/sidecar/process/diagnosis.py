"""What of the system or the environment is to blame for a failed start.

A variable may bring native libraries of another program's in:
the dynamic linker takes LD_LIBRARY_PATH, LD_PRELOAD and the like before the system's own folders
(ld.so(8), dyld(1)), so an older libstdc++ there breaks what was built for the system's. What it
then says names a version or a symbol; people need the file and the variable.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sidecar.errors import ServiceError, UnsupportedError
from sidecar.process import limits

# Of folders, and of files; `;` separates, too, for ld.so.
FOLDERS = (
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH"),
    *("DYLD_FALLBACK_LIBRARY_PATH", "DYLD_FALLBACK_FRAMEWORK_PATH"),
)
FILES = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES")
_SAID_BY_LINKERS = (
    *("undefined symbol", "not found (required by", "not defined in file", "file too short"),
    *("invalid elf header", "wrong elf class", "cannot read file data", "no version information"),
    *("symbol not found", "library not loaded", "dlopen(", "file is not of required architecture"),
    *("cannot open shared object file", "elf load command", "cannot dynamically load"),
)
# Before a colon and in parentheses a path may have spaces.
_WHOLE = re.compile(r"^/[^:]*(?=: )|(?<=required by )/[^:]*(?=\))|(?<=dlopen\()/[^:]*(?=, 0x)")
_PATH = re.compile(r"/[^\s'\",:;()]*")
MAX_SAID_CHARS = 1_000
log = logging.getLogger("sidecar.diagnosis")


def told(environment: Mapping[str, str]) -> None:
    """Log which of the variables are set: a library that crashes leaves no other word."""
    found = [name for name in (*FOLDERS, *FILES) if environment.get(name)]
    if found:
        log.info("%s may load libraries of another program", " and ".join(found))


def named(error: BaseException, environment: Mapping[str, str]) -> UnsupportedError | None:
    """Return the failure that `error`, or what it came of, is by a foreign library; else None."""
    for said in _linkers(error):
        found = find(said, environment)
        if found is not None:
            variable, library = found
            what = f"{library.name}, which {variable} brings in, breaks a library of this program"
            step = f"start it without that variable: env -u {variable} COMMAND; an app "
            step += "that starts it leaves the variable out of its environment"
            facts = {"variable": variable, "library": library.name}
            return UnsupportedError(what, f"{library}: {said}", step, facts)
    return None


def find(said: str, environment: Mapping[str, str]) -> tuple[str, Path] | None:
    """Return the variable and its library that the dynamic linker's words `said` are due to.

    It is a file that they name, or one that the file needs which they name.
    """
    brought = list(_brought(environment))
    spelled = [(variable, library) for variable, library in brought if str(library) in said]
    if spelled:  # libz.so.1.3 holds the name of libz.so.1
        return max(spelled, key=lambda found: len(str(found[1])))
    for text in dict.fromkeys((*_WHOLE.findall(said), *_PATH.findall(said))):
        needed = _needed(Path(text), [library.name for _, library in brought])
        for variable, library in brought:
            if library.name in needed:
                return variable, library
    return None


def _linkers(error: BaseException) -> Iterator[str]:
    """Yield what a dynamic linker said in those that `error` came of, the first first, and in it.

    Libraries wrap its words into pages of advice.
    """
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield from _linkers(cause)
    text = " ".join(str(error).split())
    is_import = isinstance(error, ImportError | OSError | RuntimeError)
    if is_import and any(words in text.lower() for words in _SAID_BY_LINKERS):
        yield text[:MAX_SAID_CHARS]


def _brought(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield each variable with a library that it offers."""
    for variable in FILES:
        for text in re.split(r"[\s:]+", environment.get(variable, "")):
            if text:
                yield variable, Path(text)
    for variable in FOLDERS:
        value = environment.get(variable)
        for text in re.split(r"[:;]", value) if value else ():
            folder = Path(text)  # an empty one is the current folder
            try:
                libraries = [*folder.iterdir(), *folder.glob("glibc-hwcaps/*/*")]
            except (OSError, ValueError):
                continue
            for library in sorted(libraries):
                if ".so" in library.name or library.suffix == ".dylib":
                    yield variable, library


def _needed(file: Path, names: list[str]) -> set[str]:
    """Return which of `names` the library `file` has as a whole string, as needed ones are kept."""
    try:
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return {name for name in names if data.find(b"\0%s\0" % os.fsencode(name)) >= 0}
    except (OSError, ValueError):
        return set()


def of_system(error: BaseException) -> ServiceError | None:
    """Return the end of a start that `error` is: by a foreign library, a limit, memory; else None.

    What `error` came of counts: code that could not open one file more may have blamed the file.
    """
    if isinstance(error, limits.LimitError | UnsupportedError):
        return error
    found = named(error, os.environ) or limits.failure(error, is_start=True)
    if found is not None:
        return found
    return limits.too_little() if limits.ran_out(error) else None
