"""Which CPython compiles the bytecode of every target: the one locked for this machine, if it can.

Bytecode may differ between patch releases of CPython, so that a plan names the one that compiles.
The locked one is the same on every builder; a builder's own is whatever its owner installed.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import DiskError, UsageError
from bundler.tree import archives, relocate

if TYPE_CHECKING:
    from bundler.locks.runtime import RuntimeSpec
    from bundler.targets import Target

NAME_DIGITS = 16
TRIAL = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
TRIAL_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A program that compiles bytecode, and its version."""

    executable: Path
    version: str


def own() -> Toolchain:
    """Return the CPython that runs this builder."""
    return Toolchain(executable=Path(sys.executable), version=platform.python_version())


def locked(spec: RuntimeSpec, archive: Path, target: Target, folder: Path) -> Toolchain:
    """Return the CPython of `spec`, locked for `target`, unpacked once from `archive`.

    It lies below `folder` under the first digits of the archive's sha256, and appears there by a
    rename, whole: builders that unpack it at once leave one copy. Raises UsageError where it does
    not run on this machine, PolicyError and IntegrityError for the archive, DiskError.
    """
    place = folder / spec.artifact.digest.sha256[:NAME_DIGITS]
    executable = place / target.executable.removeprefix("python/")
    if not executable.is_file():
        try:
            archives.extract(archive, place, strip=1, keep=relocate.keeps(target))
        except DiskError:
            # Another builder may have been faster: its copy is in the way, and as good.
            if not executable.is_file():
                raise
    _try(executable, spec)
    return Toolchain(executable=executable, version=spec.version)


def _try(executable: Path, spec: RuntimeSpec) -> None:
    """Raise UsageError unless the program runs here and is the version that was locked."""
    try:
        done = subprocess.run(
            [executable, "-I", "-S", "-B", "-c", TRIAL],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TRIAL_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _unusable(spec, _said(error)) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise _unusable(spec, f"exit status {done.returncode}: {last}")
    if done.stdout.strip() != spec.version:
        raise _unusable(spec, f"it says it is {done.stdout.strip()!r}")


def _said(error: Exception) -> str:
    """Return the error without the path of the program, which differs between machines."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _unusable(spec: RuntimeSpec, why: str) -> UsageError:
    return UsageError(
        f"the locked CPython {spec.version} does not run on this machine",
        why=why,
        next_step="build on a machine that it supports",
    )
