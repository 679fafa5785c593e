"""How large a bundle is, and what makes it so, as a table and as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bundler.inspection.inventory import PAPERS, label, shares
from bundler.inspection.omissions import by_rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bundler.inspection.inventory import Inventory, Share
    from bundler.inspection.omissions import Omissions, RuleSaving

MOST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSize:
    """One component: its files, its bytes, and its packages, the largest first."""

    name: str
    files: int
    size: int
    packages: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A bundle weighed, and what the diet took off it. Bytes are the files' own, not blocks."""

    plan: str
    target: str
    profile: str
    components: tuple[ComponentSize, ...]
    savings: tuple[RuleSaving, ...]
    absent: tuple[str, ...]
    foreign: tuple[str, ...]

    @property
    def files(self) -> int:
        """All files."""
        return sum(component.files for component in self.components)

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(component.size for component in self.components)

    def document(self) -> dict[str, Any]:
        """Return everything as plain data, every package included."""
        return {
            "plan": self.plan,
            "target": self.target,
            "profile": self.profile,
            "files": self.files,
            "size": self.size,
            "components": [
                {
                    "name": component.name,
                    "files": component.files,
                    "size": component.size,
                    "packages": [
                        {
                            "name": share.package.name if share.package else None,
                            "version": share.package.version if share.package else None,
                            "files": share.files,
                            "size": share.size,
                        }
                        for share in component.packages
                    ],
                }
                for component in self.components
            ],
            "savings": [
                {
                    "rule": saving.rule.name,
                    "action": saving.rule.action,
                    "package": saving.rule.package,
                    "files": saving.files,
                    "size": saving.size,
                    "reason": saving.rule.reason,
                }
                for saving in self.savings
            ],
            "wheels_not_in_store": list(self.absent),
            "wheels_not_in_bundle": list(self.foreign),
        }


def weigh(inventory: Inventory, left_out: Omissions) -> Sizes:
    """Return the sizes of a bundle from its inventory and what was left out of it."""
    manifest = inventory.manifest
    components = []
    for name in (*(component.name for component in manifest.components), PAPERS):
        owned = inventory.component(name)
        components.append(
            ComponentSize(
                name=name,
                files=len(owned),
                size=sum(file.entry.size for file in owned),
                packages=() if name == PAPERS else shares(owned),
            )
        )
    return Sizes(
        plan=manifest.plan,
        target=manifest.target,
        profile=manifest.profile,
        components=tuple(components),
        savings=by_rule(left_out.found),
        absent=left_out.absent,
        foreign=left_out.foreign,
    )


def table(sizes: Sizes) -> Iterator[str]:
    """Yield the lines that people read: components, their largest packages, the diet's savings."""
    yield _row("component", "files", "bytes")
    for component in sizes.components:
        yield _row(component.name, component.files, component.size)
        for share in component.packages[:MOST] if len(component.packages) > 1 else ():
            yield _row(f"  {label(share.package)}", share.files, share.size)
        if rest := component.packages[MOST:]:
            files, size = sum(share.files for share in rest), sum(share.size for share in rest)
            yield _row(f"  {len(rest)} more", files, size)
    yield _row("all", sizes.files, sizes.size)
    if sizes.savings:
        yield ""
        yield _row(f"left out by the profile {sizes.profile}", "files", "bytes")
        for saving in sizes.savings:
            row = _row(f"  {saving.rule.name}", saving.files, saving.size)
            yield f"{row}  {saving.rule.reason}"
        files = sum(saving.files for saving in sizes.savings)
        yield _row("all", files, sum(saving.size for saving in sizes.savings))


def _row(name: str, files: int | str, size: int | str) -> str:
    counts = [value if isinstance(value, str) else f"{value:,}" for value in (files, size)]
    return f"{name:44}{counts[0]:>9}{counts[1]:>16}"
