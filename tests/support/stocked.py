"""A miniature that was assembled, with its wheels in its store: what `size` and `why` look into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.artifacts.store import Store
from bundler.inspection.inventory import Inventory, take_stock
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from pathlib import Path

SITE = "python/lib/python3.11/site-packages"


@dataclass(frozen=True, kw_only=True)
class Stocked:
    """The checkout, its bundle, and its store."""

    miniature: Miniature
    bundle: Path
    store: Store

    @classmethod
    def make(cls, root: Path, profile: str = "safe") -> Stocked:
        """Assemble below `root`, and put every input into the store."""
        miniature = Miniature.make(root / "project")
        bundle = miniature.project.output("linux-x64")
        miniature.assemble(bundle, profile=profile)
        store = Store(miniature.project.store)
        for path in sorted(miniature.inputs.rglob("*")):
            if path.is_file():
                store.add_bytes(path.read_bytes())
        return cls(miniature=miniature, bundle=bundle, store=store)

    def inventory(self) -> Inventory:
        """Return the bundle's inventory."""
        return take_stock(self.bundle)
