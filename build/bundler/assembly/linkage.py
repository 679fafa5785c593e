"""Which file answers each import of each binary, and the oldest system that the tree runs on.

Imports are resolved as the loaders do: ELF by glibc's ld.so(8), Mach-O by dyld(1), PE by the search
that Python asks of Windows since 3.8 (the program's folder, the folder of the module being loaded,
folders a package adds). Nothing is loaded and nothing is read: the binaries have been read before.

The oldest system is, for glibc, the newest symbol version any file wants; for macOS the newest
minimum any file was built for; for Windows the newest subsystem version, or the version that
brought a library it imports.

What is taken for granted of each system, and what a person has excused, is data of the recipe.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from bundler.recipe import misfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bundler.assembly.binaries import Binary, Import

_SYSTEM_KEYS = frozenset(
    {
        *("floor", "system", "required", "runtime", "introduced", "versioned"),
        *("folder", "duplicate", "waiver"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Libraries of which one process should have one copy, and what happens with two."""

    name: str
    files: Sequence[str]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forbidden:
    """A library that no file may hold, linked in or not: words of its data, and why it may not."""

    name: str
    markers: Sequence[str]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A finding that is known and accepted: where, about what, and why that is right.

    `path` is a glob over bundle paths (`*` passes slashes too), `subject` one over what a finding
    is about: an import, a search folder, a family, a number. `target` is the one that it is for.
    """

    path: str
    subject: str
    reason: str
    target: str = ""

    def covers(self, path: str, subject: str) -> bool:
        """Return whether this waiver is about a finding on `path` about `subject`."""
        return fnmatchcase(path, self.path) and matches(subject, (self.subject,))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRules:
    """What one operating system offers, and what its audit must find or may pass.

    `system` libraries stand on every machine; `required` ones are allowed and reported, because a
    bare machine or image lacks them. `runtime` are those that CPython brings, for a tree that is
    audited without it; with it they must be found like any other. `floor` is the oldest system
    that the bundle promises to run on; `introduced` names system libraries that came with a later
    version than that; `versioned` libraries must be no older than the tools that built what
    imports them. `folders` are pairs: a glob of importers, and a folder that their package adds to
    Windows' search.
    """

    system: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    floor: str = ""
    introduced: Mapping[str, str] = field(default_factory=dict)
    versioned: tuple[str, ...] = ()
    folders: tuple[tuple[str, str], ...] = ()
    families: tuple[Family, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()
    waivers: tuple[Waiver, ...] = ()


def matches(name: str, globs: Iterable[str]) -> bool:
    """Return whether `name` matches one of `globs`, case aside."""
    folded = name.lower()
    return any(fnmatchcase(folded, glob.lower()) for glob in globs)


def from_recipe(table: Mapping[str, Any], *, system: str, target: str) -> AuditRules:
    """Return the rules for one target from the recipe's [audit] table.

    `table["duplicate"]` and `table["forbidden"]` hold for all; `table[system]` (linux, mac, win)
    has the rest, where a waiver may name the `target` it is for. Raises UsageError for a key that
    means nothing, a part that is missing, or a waiver without a reason.
    """
    own: Mapping[str, Any] = table.get(system, {})
    unknown = sorted(set(own) - _SYSTEM_KEYS)
    if unknown:
        raise misfit(f"audit.{system}", f"{', '.join(unknown)} is unknown there")
    waivers = [w for w in own.get("waiver", ()) if w.get("target", target) == target]
    if any(not waiver.get("reason", "").strip() for waiver in waivers):
        raise misfit(f"audit.{system}", "a waiver has no reason")
    try:
        return AuditRules(
            system=tuple(own["system"]),
            required=tuple(own.get("required", ())),
            runtime=tuple(own.get("runtime", ())),
            floor=own["floor"],
            introduced={name.lower(): since for name, since in own.get("introduced", {}).items()},
            versioned=tuple(own.get("versioned", ())),
            folders=tuple((one["for"], one["folder"]) for one in own.get("folder", ())),
            families=tuple(
                Family(**one) for one in (*table.get("duplicate", ()), *own.get("duplicate", ()))
            ),
            forbidden=tuple(Forbidden(**one) for one in table.get("forbidden", ())),
            waivers=tuple(Waiver(**one) for one in waivers),
        )
    except KeyError as error:
        raise misfit(f"audit.{system}", f"{error.args[0]!r} is missing") from error
    except TypeError as error:
        raise misfit(f"audit.{system}", str(error)) from error


Provider = Literal["bundle", "system", "required", "runtime", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One import and what answers it: a file of the bundle (`found`), the system, or nothing.

    Or the runtime, where the tree is one without it and the rules say what it brings. `root` is
    the module whose loading led here; a library can be found from one and not another.
    """

    importer: str
    wanted: Import
    provider: Provider
    found: str = ""
    root: str


@dataclass(slots=True)
class _Process:
    """What one process has loaded so far: by the name others ask for, and by path."""

    names: dict[str, str] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Loader:
    """The loaders' rules over one tree of binaries."""

    tree: Mapping[str, Binary]
    spellings: Mapping[str, str]
    program: str
    architecture: str
    rules: AuditRules

    def load(self, root: str, process: _Process) -> Iterator[Link]:
        """Yield the links made when `root` is loaded into `process`, breadth first."""
        waiting: list[tuple[str, tuple[str, ...]]] = [(root, ())]
        self._enter(root, process)
        while waiting:
            path, chain = waiting.pop(0)
            for wanted in self.tree[path].imports:
                link = self._answer(path, wanted, chain, root, process)
                yield link
                if link.found and link.found not in process.paths:
                    waiting.append((link.found, (path, *chain)))
                    self._enter(link.found, process)

    def _enter(self, path: str, process: _Process) -> None:
        """Note that `path` is loaded, under every name that finds it."""
        binary = self.tree[path]
        process.paths.add(path)
        # dyld knows a loaded library by its install name alone.
        plain = "" if binary.format == "macho" else posixpath.basename(path)
        for name in filter(None, (binary.name, plain)):
            process.names.setdefault(_folded(name, binary), path)

    def _answer(
        self, path: str, wanted: Import, chain: tuple[str, ...], root: str, process: _Process
    ) -> Link:
        """Return what answers one import of the binary at `path`, loaded through `chain`."""
        binary = self.tree[path]
        found = process.names.get(_folded(wanted.name, binary), "")
        if not found:
            for candidate in self._candidates(path, wanted.name, chain, root):
                place = self.spellings.get(
                    candidate.lower() if binary.format == "pe" else candidate
                )
                if place and self.architecture in self.tree[place].architectures:
                    found = place
                    break
        provider: Provider = "bundle" if found else self._beside(wanted.name)
        return Link(importer=path, wanted=wanted, provider=provider, found=found, root=root)

    def _beside(self, name: str) -> Provider:
        """Return what answers an import that the bundle does not."""
        if matches(name, self.rules.system):
            return "system"
        if matches(name, self.rules.required):
            return "required"
        return "runtime" if matches(name, self.rules.runtime) else "nothing"

    def _candidates(self, path: str, name: str, chain: tuple[str, ...], root: str) -> Iterator[str]:
        """Yield the places, as bundle paths, where the loader would look for `name`."""
        match self.tree[path].format:
            case "elf":
                if "/" not in name:
                    for folder in self._elf_folders(path, chain):
                        yield posixpath.normpath(f"{folder}/{name}")
            case "macho":
                yield from self._macho_places(path, name, chain)
            case "pe":
                added = (
                    folder
                    for importers, folder in self.rules.folders
                    if matches(path, (importers,)) or matches(root, (importers,))
                )
                own = (posixpath.dirname(root), posixpath.dirname(self.program))
                for folder in (*own, *added):
                    yield posixpath.normpath(f"{folder}/{name}")

    def _elf_folders(self, path: str, chain: tuple[str, ...]) -> Iterator[str]:
        """Yield the search folders of an ELF file; a RUNPATH shuts out those of its loaders."""
        binary = self.tree[path]
        own = (path,) if binary.rpaths and not binary.rpath_is_inherited else (path, *chain)
        for place in dict.fromkeys(own if own == (path,) else (*own, self.program)):
            loader = self.tree.get(place)
            if loader is None or (place != path and not loader.rpath_is_inherited):
                continue
            for rpath in loader.rpaths:
                plain = rpath.replace("${ORIGIN}", "$ORIGIN")
                if plain.startswith("$ORIGIN"):
                    yield posixpath.dirname(place) + plain.removeprefix("$ORIGIN")

    def _macho_places(self, path: str, name: str, chain: tuple[str, ...]) -> Iterator[str]:
        """Yield the places that a Mach-O import means."""
        if not name.startswith("@rpath/"):
            yield from self._expanded(name, path)
            return
        for place in dict.fromkeys((path, *chain, self.program)):
            loader = self.tree.get(place)
            for rpath in loader.rpaths if loader else ():
                yield from self._expanded(rpath.rstrip("/") + name.removeprefix("@rpath"), place)

    def _expanded(self, name: str, place: str) -> Iterator[str]:
        """Yield the bundle path of a name that begins with @loader_path or @executable_path."""
        for mark, origin in (("@loader_path", place), ("@executable_path", self.program)):
            if name.startswith(f"{mark}/"):
                yield posixpath.normpath(posixpath.dirname(origin) + name.removeprefix(mark))


def _folded(name: str, binary: Binary) -> str:
    """Return the name as the loader compares it: Windows forgets case."""
    return name.lower() if binary.format == "pe" else name


def links(
    tree: Mapping[str, Binary], *, program: str, architecture: str, rules: AuditRules
) -> list[Link]:
    """Return every link of the binaries in `tree` (bundle path to binary), each in its process.

    `program` is loaded first, as in life; then each module that no other names, in a process of
    its own; then whatever none of those has reached. The same link is given once.
    """
    native = {path: binary for path, binary in tree.items() if binary.kind != "object"}
    folded = {(p.lower() if b.format == "pe" else p): p for p, b in native.items()}
    loader = _Loader(native, folded, program, architecture, rules)
    named = {
        posixpath.basename(wanted.name).lower() for b in native.values() for wanted in b.imports
    }
    first = [path for path in sorted(native) if posixpath.basename(path).lower() not in named]
    found: dict[Link, Link] = {}
    reached: set[str] = set()
    base = _Process()
    for path in (*((program,) if program in native else ()), *first, *sorted(native)):
        if path in reached:
            continue
        process = base
        if path != program:
            start = _Process() if native[path].kind == "program" else base
            process = _Process(dict(start.names), set(start.paths))
        for link in loader.load(path, process):
            found.setdefault(replace(link, root=""), link)
        reached |= process.paths
    return list(found.values())


NAMES = {"linux": "glibc", "mac": "macOS", "win": "Windows"}
_VERSIONED = re.compile(r"([A-Za-z]+)_([0-9][0-9.]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumSystem:
    """The oldest system that will do; `version` is empty where no file says anything.

    `because` is the symbol version, load command or import that forces it; `libraries` the machine
    must bring, with the newest symbols wanted of each.
    """

    system: str
    version: str
    forced_by: str
    because: str
    libraries: Mapping[str, tuple[str, ...]]

    def as_mapping(self) -> dict[str, str]:
        """Return the floor as the manifest keeps it: flat, text to text."""
        flat = {self.system: self.version, f"{self.system} forced by": self.forced_by}
        for name, versions in self.libraries.items():
            flat[name] = " ".join(versions) or "any"
        return {key: value for key, value in flat.items() if value}


def version_key(version: str) -> tuple[int, ...]:
    """Return what orders dotted versions: 2.28 is after 2.5."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def minimum_system(
    binaries: Mapping[str, Binary],
    links: Sequence[Link],
    *,
    system: str,
    introduced: Mapping[str, str],
) -> MinimumSystem:
    """Return the floor of a tree (bundle path to binary) for `system`: linux, mac or win."""
    claims = sorted(_claims(binaries, links, system, introduced))
    # Of several files with the same claim, the first by path is named, on every machine.
    version, forced_by, because = max(
        claims, key=lambda claim: version_key(claim[0]), default=("", "", "")
    )
    return MinimumSystem(
        system=NAMES[system],
        version=version,
        forced_by=forced_by,
        because=because,
        libraries=_libraries(links),
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


def _libraries(links: Iterable[Link]) -> dict[str, tuple[str, ...]]:
    """Return what is left to the machine, with the newest symbol version of each namespace."""
    newest: dict[str, dict[str, str]] = {}
    for link in links:
        if link.provider != "required":
            continue
        spaces = newest.setdefault(link.wanted.name, {})
        for symbol in link.wanted.versions:
            if named := _VERSIONED.fullmatch(symbol):
                spaces[named[1]] = max(spaces.get(named[1], ""), named[2], key=version_key)
    return {
        name: tuple(f"{space}_{version}" for space, version in sorted(spaces.items()))
        for name, spaces in sorted(newest.items())
    }
