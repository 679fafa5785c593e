"""The platforms that have wheels: system, processor, C library and the oldest version of each.

Asked before pip and before any download: pip would compare the hashes of wheels that are not locked
and speak of tampering. Standard library only, for any Python from 3.9.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# What the bundle carries, and what runs the builder.
PYTHON = (3, 11)

GLIBC, MACOS, WINDOWS = "glibc", "macOS", "Windows"
MACHINES = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}
DOCKER = "docker build --platform linux/amd64 --tag sidecar ."
BITS = 64


@dataclass(frozen=True)
class Platform:
    """A platform with locked wheels, named as its target, and the profiles that it has.

    `oldest` is the version of the C library on Linux, of the system elsewhere.
    """

    target: str
    system: str
    machine: str
    library: str
    oldest: tuple[int, int]
    profiles: tuple[str, ...]


PROFILES = ("none", "safe", "lean")
LINUX = ("cluster", "batch", "lean")
ALL_PROFILES = (*PROFILES, "mps", "batch", "cluster")
PLATFORMS: Mapping[str, Platform] = {
    one.target: one
    for one in (
        Platform("linux-x64", "linux", "x86_64", GLIBC, (2, 28), ("none", "safe", *LINUX)),
        Platform("linux-arm64", "linux", "arm64", GLIBC, (2, 28), LINUX),
        Platform("mac-arm64", "darwin", "arm64", MACOS, (14, 0), (*PROFILES, "mps")),
        Platform("win-x64", "win32", "x86_64", WINDOWS, (10, 0), PROFILES),
    )
}
SYSTEMS = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}


@dataclass(frozen=True)
class Machine:
    """What a machine is: `system` as sys.platform, `machine` as uname, of this program `bits`.

    `library` and `version` are those of the C library on Linux, of the system elsewhere; an empty
    version is unknown. `level` is that of an x86-64 processor, None where it cannot be asked.
    """

    system: str
    machine: str
    library: str
    version: tuple[int, ...]
    bits: int = BITS
    level: int | None = None


def this_machine() -> Machine:
    """Return what this machine is. Raises UsageError if the environment hides nonsense."""
    library, version = _library()
    machine = _machine()
    return Machine(
        system=sys.platform,
        machine=machine,
        library=library,
        version=version,
        bits=64 if sys.maxsize > 2**32 else 32,
        level=_x86_level() if machine == "x86_64" else None,
    )


def supported(machine: Machine, profile: str = "") -> Platform:
    """Return the platform that `machine` is, if it has wheels, those of `profile` if one is named.

    Raises UnsupportedError with what helps instead.
    """
    system = SYSTEMS.get(machine.system, machine.system)
    # A 32-bit Python says nothing of 64-bit Windows, where another Python will run the builder.
    is_narrow = machine.bits < BITS and machine.system != "win32"
    found = None if is_narrow else _platform(machine.system, machine.machine)
    if found is None or not found.profiles:
        wheels = ", ".join(_spelled(one) for one in PLATFORMS.values() if one.profiles)
        here = f"32-bit {machine.machine}" if is_narrow else machine.machine
        raise _refusal(f"there are no wheels for {system} on {here}", f"there are for {wheels}")
    if machine.library != found.library:
        raise _refusal(
            f"there are no wheels for {system} with {machine.library}",
            f"they are built for {found.library}, {_dotted(found.oldest)} or newer",
        )
    if machine.version and machine.version < found.oldest:
        raise _refusal(
            f"{found.library} {_dotted(machine.version)} is too old",
            f"the wheels need {found.library} {_dotted(found.oldest)} or newer",
        )
    _require_level(machine.level)
    # A name that no platform has is a mistake, and is told as one where the profiles are known.
    if profile in ALL_PROFILES and profile not in found.profiles:
        raise UnsupportedError(
            f"there is no profile {profile} for {found.target}",
            why=f"it has {', '.join(found.profiles)}",
            next_step=f"pass --profile {found.profiles[-1]}, or {DOCKER}",
        )
    return found


def _require_level(level: int | None) -> None:
    if level is None:
        return
    from sidecar.process.cpu_features import LEAST_LEVEL  # noqa: PLC0415 - it told the level

    if level < LEAST_LEVEL:
        raise UnsupportedError(
            "this processor is too old",
            why=f"it is of the level x86-64-v{level}, and native wheels are compiled for "
            f"x86-64-v{LEAST_LEVEL}: SSE4.2, POPCNT and what goes with them",
            next_step="use a newer machine; a virtual one may hide what its host has "
            "(QEMU: -cpu host)",
        )


def _platform(system: str, machine: str) -> Platform | None:
    for one in PLATFORMS.values():
        if (one.system, one.machine) == (system, machine):
            return one
    return None


def _refusal(what: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        what, why=why, next_step=f"{DOCKER}   (makes the image, and needs Docker alone)"
    )


def _spelled(one: Platform) -> str:
    system = SYSTEMS[one.system]
    oldest = (
        f"{one.library} {_dotted(one.oldest)}" if one.library != system else _dotted(one.oldest)
    )
    return f"{system} on {one.machine} from {oldest}"


def _dotted(version: Iterable[int]) -> str:
    return ".".join(str(part) for part in version)


def _numbers(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, none if it does not begin with one."""
    parts = [*text.strip().split("."), "0"][:2]
    return tuple(int(part) for part in parts) if all(map(str.isdecimal, parts)) else ()


def _machine() -> str:
    """Return the processor, also where this program is translated for it."""
    name = platform.machine().lower()
    if sys.platform == "darwin" and output("/usr/sbin/sysctl", "-n", "hw.optional.arm64") == "1":
        # A Python for Intel under Rosetta: the CPython that will run the builder is native.
        return "arm64"
    return MACHINES.get(name, name)


def _x86_level() -> int | None:
    try:
        from sidecar.process import cpu_features  # noqa: PLC0415 - a Python may have no ctypes
    except ImportError:
        return None
    name = cpu_features.VARIABLE
    try:
        return cpu_features.detect(lacks=os.environ.get(name, "")).level
    except ValueError as error:
        raise UsageError(
            f"the environment variable {name} is invalid", why=str(error), next_step=f"unset {name}"
        ) from error


def _library() -> tuple[str, tuple[int, ...]]:
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        return WINDOWS, (version.major, version.minor)
    if sys.platform == "darwin":
        # A Python that was built for an older system is told that this one is 10.16.
        told = output("/usr/bin/sw_vers", "-productVersion", SYSTEM_VERSION_COMPAT="0")
        return MACOS, _numbers(told or platform.mac_ver()[0])
    try:
        name, _, text = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):
        name, text = "", ""
    if name == GLIBC:
        return GLIBC, _numbers(text)
    is_musl = any(Path("/lib").glob("ld-musl-*"))
    return "musl" if is_musl else "a C library that is not glibc", ()


def output(*command: str, **environment: str) -> str:
    """Return what a program of the system prints, nothing if it cannot be asked."""
    try:
        done = run_program(command, env={**os.environ, **environment}, timeout_s=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "" if done.returncode else done.stdout.strip()


def run_program(
    command: Sequence[str | Path],
    *,
    text: str = "",
    is_merged: bool = False,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Return how a program ended that read `text`, and what it said, whatever that was.

    Merged, its errors are among the rest. Raises OSError and SubprocessError.
    """
    return subprocess.run(
        command,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if is_merged else subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
        cwd=cwd,
        env=env,
        timeout=timeout_s,
    )
