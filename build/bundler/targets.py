"""The platforms a bundle is made for, spelled as electron-builder's ${os}-${arch} spells them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from bundler.bootstrap import platforms
from bundler.errors import UnsupportedError, UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging import tags

PYTHON = platforms.PYTHON
# As OCI and Debian spell the architectures of our targets.
ARCHITECTURES = {"x64": "amd64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One platform: its name, its triple, what its wheels may be tagged, and its markers."""

    name: str
    triple: str
    os: str
    platform_tags: tuple[str, ...]
    markers: Mapping[str, str]

    @property
    def executable(self) -> str:
        """Where the runtime's program lies in the bundle."""
        return "python/python.exe" if self.os == "win" else "python/bin/python3.11"

    @property
    def stdlib(self) -> str:
        """Where the standard library lies in the bundle."""
        return "python/Lib" if self.os == "win" else "python/lib/python3.11"

    @property
    def site_packages(self) -> str:
        """Where the wheels are unpacked in the bundle."""
        return f"{self.stdlib}/site-packages"

    @property
    def layout(self) -> tuple[str, ...]:
        """All that assembling asks of a target: any change of it is another bundle."""
        return (self.os, self.executable, self.stdlib, self.site_packages)

    def tag_ranks(self) -> Mapping[tags.Tag, int]:
        """Return how good each wheel tag that this target runs is; 0 is best, and the first."""
        return _tag_ranks(self.platform_tags)


@cache
def _tag_ranks(platforms: tuple[str, ...]) -> Mapping[tags.Tag, int]:
    from packaging import tags  # noqa: PLC0415 - options are checked before it is installed

    best_first = (
        *tags.cpython_tags(PYTHON, platforms=platforms),
        *tags.compatible_tags(PYTHON, interpreter="cp311", platforms=platforms),
    )
    return {tag: rank for rank, tag in enumerate(best_first)}


def _manylinux(target: str, machine: str, oldest: int = 17) -> Iterator[str]:
    """Yield glibc platform tags, newest first, with the old aliases where they stand."""
    aliases = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    for minor in range(platforms.PLATFORMS[target].oldest[1], oldest - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in aliases:
            yield f"{aliases[minor]}_{machine}"
    yield f"linux_{machine}"


def _macos(machine: str, newest: int) -> Iterator[str]:
    """Yield the tags of macOS, newest first; before 11 programs were for Intel, or universal."""
    for major in range(newest, 10, -1):
        yield f"macosx_{major}_0_{machine}"
        yield f"macosx_{major}_0_universal2"
    for minor in range(16, 3, -1):
        yield f"macosx_10_{minor}_universal2"


def _markers(os_name: str, sys_platform: str, system: str, machine: str) -> dict[str, str]:
    """Return the PEP 508 environment that decides markers for a target."""
    return {
        "implementation_name": "cpython",
        "implementation_version": "3.11.0",
        "os_name": os_name,
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": "3.11.0",
        "python_version": "3.11",
        "sys_platform": sys_platform,
    }


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="linux-x64",
            triple="x86_64-unknown-linux-gnu",
            os="linux",
            platform_tags=tuple(_manylinux("linux-x64", "x86_64", oldest=5)),
            markers=_markers("posix", "linux", "Linux", "x86_64"),
        ),
        Target(
            name="linux-arm64",
            triple="aarch64-unknown-linux-gnu",
            os="linux",
            platform_tags=tuple(_manylinux("linux-arm64", "aarch64")),
            markers=_markers("posix", "linux", "Linux", "aarch64"),
        ),
        Target(
            name="mac-arm64",
            triple="aarch64-apple-darwin",
            os="mac",
            platform_tags=tuple(_macos("arm64", platforms.PLATFORMS["mac-arm64"].oldest[0])),
            markers=_markers("posix", "darwin", "Darwin", "arm64"),
        ),
        Target(
            name="win-x64",
            triple="x86_64-pc-windows-msvc",
            os="win",
            platform_tags=("win_amd64",),
            markers=_markers("nt", "win32", "Windows", "AMD64"),
        ),
    )
}


def target_named(name: str) -> Target:
    """Return the target called `name`. Raises UnsupportedError."""
    if name not in TARGETS:
        raise unknown("target", name, TARGETS, option="--target", error=UnsupportedError)
    return TARGETS[name]


def host_target() -> Target:
    """Return the target this machine is. Raises UnsupportedError."""
    return target_named(platforms.supported(platforms.this_machine()).target)


def serves(target: Target) -> bool:
    """Return whether a CPython that was installed can stand in for the locked one of `target`.

    It is a copy of this machine's, or Debian's for another machine that runs Linux.
    """
    is_linux = sys.platform == "linux" and target.os == "linux"
    return is_linux or target.triple == host_target().triple


def refuse_foreign_host(target: Target) -> None:
    """Raise UsageError unless a copy of this machine's Python can serve `target`."""
    if not serves(target):
        raise UsageError(
            f"a copy of this machine's Python cannot serve {target.name}",
            why="it is built for another platform",
            next_step="leave --runtime out",
        )
