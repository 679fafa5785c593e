"""Whose each file of a bundle is, why a file is there or is not, and how two bundles differ."""

from __future__ import annotations

import posixpath
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installer.records import parse_record_file
from packaging.utils import canonicalize_name

from bundler.assembly.build_report import SourceReport, read_report
from bundler.bundle import read_bundle, unfit
from bundler.errors import UsageError
from bundler.targets import target_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bundler.assembly.build_report import LeftOut
    from sidecar.manifest import Component, FileEntry, Manifest

# What the bundle says of itself, which is in no component.
PAPERS = "papers"
RECORD = ".dist-info/RECORD"
BYTECODE = "__pycache__/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What brought a file: a wheel, the runtime, a model, or our own service."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """One file of a bundle, and whose it is; a file that nothing claims has no package."""

    component: str
    package: Owner | None
    entry: FileEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Every file of a bundle by its path, in order: the components' first, then its papers.

    `sources` are what its build report says that they were made from; `unknown` names the
    components that no report beside the bundle speaks of.
    """

    manifest: Manifest
    files: Mapping[str, Owned]
    sources: tuple[SourceReport, ...] = ()
    unknown: tuple[str, ...] = ()

    def component(self, name: str) -> tuple[Owned, ...]:
        """Return the files of the component `name`, or of PAPERS."""
        return tuple(owned for owned in self.files.values() if owned.component == name)

    def wheels(self) -> tuple[SourceReport, ...]:
        """Return what is known of the wheels."""
        return tuple(source for source in self.sources if source.file.endswith(".whl"))


def take_stock(root: Path) -> Inventory:
    """Return the inventory of the bundle at `root`: its lists, its wheels' RECORD, its report.

    No file is hashed but the papers. Bytecode belongs to the package of its source. Raises
    VerificationError for what is not a bundle, or lacks a file that this needs.
    """
    files: dict[str, Owned] = {}
    try:
        bundle = read_bundle(root)
        manifest = bundle.manifest
        for component in manifest.components:
            entries = bundle.lists[component.name]
            owners = _owners(root, manifest, component, entries)
            for entry in entries:
                package = owners.get(source_of(entry.path))
                files[entry.path] = Owned(component=component.name, package=package, entry=entry)
        for entry in (*sorted(bundle.own, key=lambda own: own.path), *manifest.documents):
            files[entry.path] = Owned(component=PAPERS, package=None, entry=entry)
    except OSError as error:
        raise unfit(root, str(error), "be read") from error
    report = read_report(root)
    reported = [c for c in manifest.components if c.name in report]
    told = [c.name for c in reported if report[c.name].inputs == c.inputs]
    return Inventory(
        manifest=manifest,
        files=files,
        sources=tuple(source for name in told for source in report[name].sources),
        unknown=tuple(c.name for c in manifest.components if c.name not in told),
    )


def source_of(path: str) -> str:
    """Return the source that the bytecode at `path` was made from, or `path` itself (PEP 3147)."""
    folder, mark, name = path.rpartition(BYTECODE)
    if not mark or not name.endswith(".pyc"):
        return path
    return f"{folder}{name.rpartition('.cpython-')[0]}.py"


def _owners(
    root: Path, manifest: Manifest, component: Component, entries: Iterable[FileEntry]
) -> Mapping[str, Owner]:
    """Return the package of each path, as far as one claims it."""
    whole = {
        "python": Owner(name="CPython", version=manifest.runtime.version),
        "service": Owner(name="sidecar", version=manifest.version),
    }
    if component.name in whole:
        return {source_of(entry.path): whole[component.name] for entry in entries}
    if component.name != "models":
        return _wheels(root, manifest, entries)
    owners = {}
    for model in manifest.models:
        package = Owner(name=model.repository, version=model.revision)
        # The cache of a model is the folder above its snapshots.
        cache = f"{posixpath.dirname(posixpath.dirname(model.snapshot))}/"
        for entry in entries:
            if entry.path.startswith(cache) or entry.path == model.golden:
                owners[entry.path] = package
    return owners


def _wheels(root: Path, manifest: Manifest, entries: Iterable[FileEntry]) -> Mapping[str, Owner]:
    site = target_named(manifest.target).site_packages
    owners: dict[str, Owner] = {}
    for entry in entries:
        if not entry.path.endswith(RECORD):
            continue
        stem = posixpath.basename(entry.path.removesuffix(RECORD))
        name, _, version = stem.partition("-")
        package = Owner(name=canonicalize_name(name), version=version)
        lines = (root / entry.path).read_text(encoding="utf-8").splitlines()
        for path, _, _ in parse_record_file(lines):
            owners.setdefault(posixpath.normpath(f"{site}/{path}"), package)
    return owners


def why(asked: str, bundle: Path, inventory: Inventory) -> tuple[str, ...]:
    """Return in lines what is known of the file that people call `asked`.

    It may be spelled from the bundle's root, from site-packages, from python/, or as a path of
    this machine. Raises UsageError where neither the bundle nor anything it was made from has it.
    """
    left_out = {one.path: (source, one) for source in inventory.sources for one in source.left_out}
    sources = {(source.package, source.version): source for source in inventory.sources}
    for path in _spellings(asked, bundle, inventory):
        owned = inventory.files.get(path)
        source, lacking = left_out.get(path, (None, None))
        if owned is not None and owned.package is not None and source is None:
            source = sources.get((owned.package.name, owned.package.version))
        if owned is not None or lacking is not None:
            return (f"path       {path}", *_lines(owned, source, lacking))
    missing = ", ".join(inventory.unknown)
    raise UsageError(
        f"nothing is known of {asked}",
        why="it is neither in the bundle nor in what the bundle was made from"
        + (f", as far as is known without a build report of {missing}" if missing else ""),
        next_step="python3 build size shows what there is; python3 build assemble writes a report",
    )


def _lines(
    owned: Owned | None, source: SourceReport | None, lacking: LeftOut | None
) -> Iterator[str]:
    """Yield the lines that people read of a file, and of what was left out of it."""
    if owned:
        yield f"component  {owned.component}"
    if source:
        yield f"package    {source.package} {source.version}"
    elif owned and owned.package:
        yield f"package    {owned.package.name} {owned.package.version}"
    if source and source.file.endswith((".whl", ".gz", ".zst")):
        yield f"from       {source.file}"
    if owned:
        yield f"bytes      {owned.entry.size:,}"
    if lacking is None:
        return
    if lacking.rule is None:
        yield f"left out   {lacking.size:,} bytes, as in every bundle:"
        yield "           scripts, headers, foreign bytecode and installers' notes are never kept,"
        yield "           licences with long paths are in NOTICES.txt"
        return
    word = "stripped" if owned else "removed"
    yield f"{word:9}  {lacking.size:,} bytes, by the rule {lacking.rule.name}"
    yield f"reason     {lacking.rule.reason}"


def _spellings(asked: str, bundle: Path, inventory: Inventory) -> Iterator[str]:
    """Yield the paths in the bundle that `asked` may mean, the likeliest first."""
    plain = posixpath.normpath(asked.replace("\\", "/"))
    yield plain
    yield f"{target_named(inventory.manifest.target).site_packages}/{plain}"
    yield f"python/{plain}"
    place, root = Path(asked).absolute(), bundle.absolute()
    if place.is_relative_to(root):
        yield place.relative_to(root).as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentDifference:
    """What became of one component's files. `changed` files have other bytes, or another mode."""

    name: str
    added: tuple[FileEntry, ...]
    removed: tuple[FileEntry, ...]
    changed: tuple[tuple[FileEntry, FileEntry], ...]

    @property
    def growth(self) -> int:
        """Bytes after, less bytes before, of the files that differ."""
        return (
            _size(self.added)
            - _size(self.removed)
            + sum(new.size - old.size for old, new in self.changed)
        )

    def document(self) -> dict[str, Any]:
        """Return it as plain data, with every path."""
        return {
            "name": self.name,
            "growth": self.growth,
            "added": {"size": _size(self.added), "paths": [e.path for e in self.added]},
            "removed": {"size": _size(self.removed), "paths": [e.path for e in self.removed]},
            "changed": {
                "size_before": sum(old.size for old, _ in self.changed),
                "size_after": sum(new.size for _, new in self.changed),
                "paths": [new.path for _, new in self.changed],
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """All in which two bundles differ, nothing if they are the same.

    `fields` are the statements of the manifests by dotted names, before and after.
    """

    fields: Mapping[str, tuple[object, object]]
    components: tuple[ComponentDifference, ...]

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "fields": {
                name: {"before": before, "after": after}
                for name, (before, after) in self.fields.items()
            },
            "components": [component.document() for component in self.components],
        }


def compare(before: Inventory, after: Inventory) -> Difference:
    """Return how `after` differs from `before`; components in the order in which they ship."""
    old, new = _statements(before.manifest), _statements(after.manifest)
    if before.sources and after.sources:
        old |= {f"sources.{source.package}": source.version for source in before.sources}
        new |= {f"sources.{source.package}": source.version for source in after.sources}
    names = dict.fromkeys(
        owned.component for inventory in (before, after) for owned in inventory.files.values()
    )
    components = [_component(name, before, after) for name in names]
    return Difference(
        fields={
            name: (old.get(name), new.get(name))
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        },
        components=tuple(c for c in components if c.added or c.removed or c.changed),
    )


def _component(name: str, before: Inventory, after: Inventory) -> ComponentDifference:
    old, new = (
        {owned.entry.path: owned.entry for owned in inventory.component(name)}
        for inventory in (before, after)
    )
    return ComponentDifference(
        name=name,
        added=tuple(new[path] for path in sorted(new.keys() - old.keys())),
        removed=tuple(old[path] for path in sorted(old.keys() - new.keys())),
        changed=tuple(
            (old[path], new[path])
            for path in sorted(old.keys() & new.keys())
            if old[path] != new[path]
        ),
    )


def lines(difference: Difference, *, with_names: bool) -> Iterator[str]:
    """Yield what people read: fields, a line for each component, and every path if asked."""
    for name, values in difference.fields.items():
        yield f"{name}: {' -> '.join(map(_shown, values))}"
    for component in difference.components:
        yield (
            f"{component.name}: {len(component.added)} added ({_size(component.added):,} bytes), "
            f"{len(component.removed)} removed ({_size(component.removed):,} bytes), "
            f"{len(component.changed)} changed; {component.growth:+,} bytes"
        )
        if with_names:
            yield from (f"  + {entry.path}  {entry.size:,}" for entry in component.added)
            yield from (f"  - {entry.path}  {entry.size:,}" for entry in component.removed)
            for old, new in component.changed:
                mode = f"  mode {old.mode:o} -> {new.mode:o}" if old.mode != new.mode else ""
                yield f"  ~ {new.path}  {old.size:,} -> {new.size:,}{mode}"
    if not difference.fields and not difference.components:
        yield "the same"


def _statements(manifest: Manifest) -> dict[str, object]:
    """Return what a manifest says, apart from the lists of files, by dotted names."""
    statements: dict[str, object] = {}
    document = asdict(manifest)
    del document["documents"]
    for component in document.pop("components"):
        statements[f"components.{component['name']}.inputs"] = component["inputs"]
    for model in document.pop("models"):
        for key, value in model.items():
            statements[f"models.{model['name']}.{key}"] = value
    for key in ("runtime", "floor"):
        for inner, value in document.pop(key).items():
            statements[f"{key}.{inner}"] = value
    return statements | document


def _size(entries: tuple[FileEntry, ...]) -> int:
    return sum(entry.size for entry in entries)


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, tuple | list):
        return "; ".join(map(str, value)) or "nothing"
    return str(value)
