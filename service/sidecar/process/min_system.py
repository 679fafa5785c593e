"""Check the oldest system and processor that will do, before anything native is loaded.

A loader that misses a symbol version names the symbol; people need the name of the system. A
processor that misses an instruction ends the process without a word.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping

from sidecar.errors import UnsupportedError
from sidecar.process.cpu_features import LEAST_LEVEL, CpuFeatures

# As the builder spells them in manifest.json.
GLIBC, MACOS, WINDOWS = "glibc", "macOS", "Windows"


def present() -> tuple[str, str]:
    """Return what this system is and its version; the version is empty where it has none."""
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        return WINDOWS, f"{version.major}.{version.minor}"
    if sys.platform == "darwin":
        return MACOS, platform.mac_ver()[0]
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return GLIBC, ""
    return GLIBC, version if name == GLIBC else ""


def require(floor: Mapping[str, str], system: tuple[str, str] | None = None) -> None:
    """Raise UnsupportedError if `floor`, from the manifest, is above the system."""
    name, version = system or present()
    needed = floor.get(name, "")
    if not needed or (version and _key(version) >= _key(needed)):
        return
    has = f"this system has {name} {version}" if version else f"this system has no {name}"
    forced_by = floor.get(f"{name} forced by", "")
    why = f"{has}; {forced_by} was built for the newer one" if forced_by else has
    step = "use a newer system, or a bundle for this one"
    raise UnsupportedError(f"this program needs {name} {needed} or newer", why, step)


def require_processor(features: CpuFeatures) -> None:
    """Raise UnsupportedError for an x86-64 processor that misses instructions of every wheel.

    One that does not tell its level is not refused.
    """
    if features.level is None or features.level >= LEAST_LEVEL:
        return
    what = f"this program needs a processor of the level x86-64-v{LEAST_LEVEL} or newer"
    why = f"this one is of the level x86-64-v{features.level}: it lacks one of SSE3, SSSE3, "
    why += "SSE4.1, SSE4.2, POPCNT, CMPXCHG16B and LAHF, which the native libraries use"
    step = "use a newer machine; a virtual one may hide what its host has (QEMU: -cpu host)"
    raise UnsupportedError(what, why, step)


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
