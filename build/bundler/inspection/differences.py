"""How two bundles differ: in what was planned, and file by file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bundler.inspection.inventory import Inventory
    from sidecar.manifest import FileEntry, Manifest


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
