"""Which file answers each import of each binary, and the oldest system that the tree runs on.

Imports are resolved as the loaders do: ELF by glibc's ld.so(8), Mach-O by dyld(1), PE by the search
that Python asks of Windows since 3.8 (the program's folder, the folder of the module being loaded,
folders a package adds). Nothing is loaded and nothing is read: the binaries have been read before.

The oldest system is, for glibc, the newest symbol version any file wants; for macOS the newest
minimum any file was built for; for Windows the newest subsystem version, or the version that
brought a library it imports.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bundler.assembly.audit_policy import matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bundler.assembly.audit_policy import AuditRules
    from bundler.assembly.binaries import Binary, Import

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

    def copy(self) -> _Process:
        return _Process(dict(self.names), set(self.paths))


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
        self,
        path: str,
        wanted: Import,
        chain: tuple[str, ...],
        root: str,
        process: _Process,
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
        provider: Provider = "bundle" if found else "nothing"
        if not found and self.rules.is_system(wanted.name):
            provider = "system"
        elif not found and self.rules.is_required(wanted.name):
            provider = "required"
        elif not found and self.rules.is_of_runtime(wanted.name):
            provider = "runtime"
        return Link(importer=path, wanted=wanted, provider=provider, found=found, root=root)

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
                    one.folder
                    for one in self.rules.folders
                    if matches(path, (one.importers,)) or matches(root, (one.importers,))
                )
                for folder in (
                    posixpath.dirname(root),
                    posixpath.dirname(self.program),
                    *added,
                ):
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
        for mark, origin in (
            ("@loader_path", place),
            ("@executable_path", self.program),
        ):
            if name.startswith(f"{mark}/"):
                yield posixpath.normpath(posixpath.dirname(origin) + name.removeprefix(mark))


def _folded(name: str, binary: Binary) -> str:
    """Return the name as the loader compares it: Windows forgets case."""
    return name.lower() if binary.format == "pe" else name


def links(
    tree: Mapping[str, Binary], *, program: str, architecture: str, rules: AuditRules
) -> Iterator[Link]:
    """Yield every link of the binaries in `tree` (bundle path to binary), each in its process.

    `program` is loaded first, as in life; then each module that no other names, in a process of
    its own; then whatever none of those has reached. The same link is given once.
    """
    native = {path: binary for path, binary in tree.items() if binary.kind != "object"}
    folded = {(p.lower() if b.format == "pe" else p): p for p, b in native.items()}
    loader = _Loader(native, folded, program, architecture, rules)
    seen: set[Link] = set()
    reached: set[str] = set()
    base = _Process()

    def fresh(found: Iterator[Link]) -> Iterator[Link]:
        for link in found:
            key = Link(
                importer=link.importer,
                wanted=link.wanted,
                provider=link.provider,
                found=link.found,
                root="",
            )
            if key not in seen:
                seen.add(key)
                yield link

    if program in native:
        yield from fresh(loader.load(program, base))
        reached |= base.paths
    named = {
        posixpath.basename(wanted.name).lower() for b in native.values() for wanted in b.imports
    }
    first = [path for path in sorted(native) if posixpath.basename(path).lower() not in named]
    for path in (*first, *sorted(native)):
        if path not in reached:
            process = _Process() if native[path].kind == "program" else base.copy()
            yield from fresh(loader.load(path, process))
            reached |= process.paths


NAMES = {"linux": "glibc", "mac": "macOS", "win": "Windows"}
_VERSIONED = re.compile(r"([A-Za-z]+)_([0-9][0-9.]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemLibrary:
    """A library that the machine must bring, the newest symbols wanted of it, and who wants it."""

    name: str
    versions: tuple[str, ...]
    forced_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumSystem:
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


def minimum_system(
    binaries: Mapping[str, Binary],
    links: Iterable[Link],
    *,
    system: str,
    introduced: Mapping[str, str],
) -> MinimumSystem:
    """Return the floor of a tree (bundle path to binary) for `system`: linux, mac or win."""
    made = tuple(links)
    claims = sorted(_claims(binaries, made, system, introduced))
    best = max(claims, key=lambda claim: version_key(claim[0]), default=("", "", ""))
    # Of several files with the same claim, the first by path is named, on every machine.
    first = next((c for c in claims if c[0] == best[0]), best)
    return MinimumSystem(
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
