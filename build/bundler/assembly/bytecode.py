"""Bytecode for every source file of a tree, the same bytes whatever machine or order made it.

Files are hash-based and unchecked (PEP 552): nothing looks at times, so copying and signing a
bundle never makes Python write into it. The file name inside is relative, which serves every
target; Python puts the real path in when it imports, so tracebacks find their lines.

Bytecode may differ between patch releases of CPython, so a plan names the one that compiles: the
one locked for this machine, if it runs, or else the builder's own.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.assembly import compile_worker, runtime, safe_extract
from bundler.assembly.exclusions import keeps
from bundler.bootstrap.platforms import run_program
from bundler.errors import DiskError, UsageError
from bundler.targets import PYTHON
from sidecar.process.children import needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from bundler.locks.runtime import RuntimeSpec
    from bundler.targets import Target

TAG = f"cpython-{PYTHON[0]}{PYTHON[1]}"
# A process more takes as long as a few files.
BATCH_FILES = 128
SITE_PACKAGES = "site-packages/"


def compile_tree(
    root: Path, *, interpreter: Path, jobs: int, on_file: Callable[[str], None] = lambda _: None
) -> None:
    """Compile every .py file below `root` with `interpreter`, a Python 3.11, in `jobs` processes.

    Bytecode that was there goes first. A file's name in its code is its path below the nearest
    site-packages, or below `root`. `on_file` hears each source's path when it is done, from this
    thread. A killed run leaves a tree to compile again, so compile before a tree is published.
    What does not compile (templates, test data) gets no bytecode. Raises UsageError for another
    Python, DiskError.
    """
    for folder in sorted(root.rglob("__pycache__"), reverse=True):
        shutil.rmtree(folder)
    sources = _sources(root)
    batches = [sources[at : at + BATCH_FILES] for at in range(0, len(sources), BATCH_FILES)]
    with ThreadPoolExecutor(max_workers=jobs) as threads:
        compiled = threads.map(lambda batch: _compile(root, batch, interpreter), batches)
        for batch, _ in zip(batches, compiled, strict=True):
            for path in batch:
                on_file(path)


def bytecode_path(source: str) -> str:
    """Return where the bytecode of the POSIX path `source` lies (PEP 3147)."""
    folder, slash, name = source.rpartition("/")
    return f"{folder}{slash}__pycache__/{name.removesuffix('.py')}.{TAG}.pyc"


def _sources(root: Path) -> list[str]:
    """Return the POSIX paths of the sources below `root`, sorted."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*.py") if p.is_file())


def _compile(root: Path, batch: list[str], interpreter: Path) -> None:
    """Compile some sources in a process that sees no settings of ours.

    Raises DiskError where it cannot write, UsageError.
    """
    jobs = [
        (str(root / path), str(root / bytecode_path(path)), path.rpartition(SITE_PACKAGES)[2])
        for path in batch
    ]
    flags = ("-s", "-S", "-P", "-B", "-X", "utf8", "-W", "ignore")
    try:
        done = run_program(
            [interpreter, *flags, compile_worker.__file__],
            text=json.dumps(jobs),
            env={"PYTHONHASHSEED": "0", **needed(os.environ)},
        )
    except OSError as error:
        raise _unusable(interpreter, error.strerror or str(error)) from error
    if not done.stdout:
        raise _unusable(interpreter, f"it ended early, with code {done.returncode}")
    version, failure = json.loads(done.stdout)
    if tuple(version[:2]) != PYTHON:
        raise _unusable(interpreter, f"it is Python {'.'.join(map(str, version))}")
    if failure:
        raise DiskError(
            "bytecode cannot be written",
            why=failure,
            next_step="free some space and run the same command again",
        )


def _unusable(interpreter: Path, why: str) -> UsageError:
    """Return the error for an interpreter that does not work."""
    return UsageError(
        f"{interpreter.name} cannot compile for this bundle",
        why=why,
        next_step=f"pass a Python {PYTHON[0]}.{PYTHON[1]} that starts",
    )


NAME_DIGITS = 16
TRIAL = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
TRIAL_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A program that compiles bytecode, and its version."""

    executable: Path
    version: str


def own_compiler() -> Compiler:
    """Return the CPython that runs this builder."""
    return Compiler(executable=Path(sys.executable), version=platform.python_version())


def locked_compiler(spec: RuntimeSpec, archive: Path, target: Target, folder: Path) -> Compiler:
    """Return the CPython of `spec`, locked for `target`, unpacked once from `archive`.

    It lies below `folder` under the first digits of the archive's sha256, and appears there by a
    rename, whole: builders that unpack it at once leave one copy. Raises UsageError where it does
    not run on this machine, PolicyError and IntegrityError for the archive, DiskError.
    """
    place = folder / spec.artifact.digest.sha256[:NAME_DIGITS]
    executable = place / target.executable.removeprefix("python/")
    if not executable.is_file():
        try:
            safe_extract.extract(archive, place, strip=1, keep=keeps(runtime.rules_for(target)))
        except DiskError:
            # Another builder may have been faster: its copy is in the way, and as good.
            if not executable.is_file():
                raise
    _try_out(executable, spec)
    return Compiler(executable=executable, version=spec.version)


def _try_out(executable: Path, spec: RuntimeSpec) -> None:
    """Raise UsageError unless the program runs here and is the version that was locked."""
    try:
        done = run_program([executable, "-I", "-S", "-B", "-c", TRIAL], timeout_s=TRIAL_S)
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        why = f"exit status {done.returncode}: {last}"
        if not done.returncode:
            if done.stdout.strip() == spec.version:
                return
            why = f"it says it is {done.stdout.strip()!r}"
    except (OSError, subprocess.SubprocessError) as error:
        # Without the path of the program, which differs between machines.
        why = getattr(error, "strerror", None) or type(error).__name__
    raise UsageError(
        f"the locked CPython {spec.version} does not run on this machine",
        why=why,
        next_step="build on a machine that it supports",
    )
