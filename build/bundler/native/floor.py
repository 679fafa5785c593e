"""The oldest operating system a tree runs on, with the file that forces it.

glibc: the newest symbol version any file wants. macOS: the newest minimum any file was built
for. Windows: the newest subsystem version, or the version that brought a library it imports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bundler.native.binaries import Binary
    from bundler.native.linkage import Link

NAMES = {"linux": "glibc", "mac": "macOS", "win": "Windows"}
_VERSIONED = re.compile(r"([A-Za-z]+)_([0-9][0-9.]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemLibrary:
    """A library that the machine must bring, the newest symbols wanted of it, and who wants it."""

    name: str
    versions: tuple[str, ...]
    forced_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The oldest system that will do; `version` is empty where no file says anything.

    `because` is the symbol version, load command or import that forces it.
    """

    system: str
    version: str
    forced_by: str
    because: str
    libraries: tuple[SystemLibrary, ...] = ()

    def as_mapping(self) -> dict[str, str]:
        """Return the floor as the manifest keeps it: flat, text to text."""
        flat = {self.system: self.version, f"{self.system} forced by": self.forced_by}
        for library in self.libraries:
            flat[library.name] = " ".join(library.versions) or "any"
        return {key: value for key, value in flat.items() if value}

    def render(self) -> str:
        """Return the floor as people read it, one line per requirement."""
        lines = [f"{self.system} {self.version or 'any'}"]
        if self.forced_by:
            lines[0] += f", forced by {self.forced_by} ({self.because})"
        lines.extend(
            f"needs {one.name} of the system"
            + (f" ({', '.join(one.versions)})" if one.versions else "")
            + f", forced by {one.forced_by}"
            for one in self.libraries
        )
        return "\n".join(lines)


def version_key(version: str) -> tuple[int, ...]:
    """Return what orders dotted versions: 2.28 is after 2.5."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def compute(
    binaries: Mapping[str, Binary],
    links: Iterable[Link],
    *,
    system: str,
    introduced: Mapping[str, str],
) -> Floor:
    """Return the floor of a tree (bundle path to binary) for `system`: linux, mac or win."""
    made = tuple(links)
    claims = sorted(_claims(binaries, made, system, introduced))
    best = max(claims, key=lambda claim: version_key(claim[0]), default=("", "", ""))
    # Of several files with the same claim, the first by path is named, on every machine.
    first = next((c for c in claims if c[0] == best[0]), best)
    return Floor(
        system=NAMES[system],
        version=first[0],
        forced_by=first[1],
        because=first[2],
        libraries=_libraries(made),
    )


def _claims(
    binaries: Mapping[str, Binary],
    links: Iterable[Link],
    system: str,
    introduced: Mapping[str, str],
) -> Iterator[tuple[str, str, str]]:
    """Yield (version, path, reason) for everything that asks for some version of the system."""
    if system == "linux":
        for link in links:
            for symbol in link.wanted.versions:
                named = _VERSIONED.fullmatch(symbol)
                if named and named[1] == "GLIBC":
                    yield named[2], link.importer, symbol
        return
    word = "minimum macOS" if system == "mac" else "subsystem version"
    wanted_format = "macho" if system == "mac" else "pe"
    for path, binary in binaries.items():
        if binary.minimum and binary.format == wanted_format and binary.kind != "object":
            yield binary.minimum, path, word
    for link in links:
        since = introduced.get(link.wanted.name.lower())
        if since and link.provider == "system" and not link.wanted.optional:
            yield since, link.importer, link.wanted.name


def _libraries(links: Iterable[Link]) -> tuple[SystemLibrary, ...]:
    """Return what is left to the machine, with the newest symbol version of each namespace."""
    newest: dict[str, dict[str, tuple[tuple[int, ...], str]]] = {}
    wanting: dict[str, str] = {}
    for link in links:
        if link.provider != "required":
            continue
        name = link.wanted.name
        spaces = newest.setdefault(name, {})
        raised = False
        for symbol in link.wanted.versions:
            named = _VERSIONED.fullmatch(symbol)
            if not named:
                continue
            key = version_key(named[2])
            raised |= named[1] in spaces and spaces[named[1]][0] < key
            if named[1] not in spaces or spaces[named[1]][0] < key:
                spaces[named[1]] = (key, symbol)
        if raised or name not in wanting:
            wanting[name] = link.importer
    return tuple(
        SystemLibrary(
            name=name,
            versions=tuple(symbol for _, (_, symbol) in sorted(newest[name].items())),
            forced_by=wanting[name],
        )
        for name in sorted(wanting)
    )
