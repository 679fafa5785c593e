"""A release in miniature: a bundle, and everything that a release has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.artifacts.store import Store
from bundler.bundle import read_bundle
from bundler.console import Progress
from bundler.release.contents import ReleaseContents, write_release
from tests.support.miniature import EPOCH, Miniature
from tests.support.tinybase import tiny_base

if TYPE_CHECKING:
    from pathlib import Path

STEM = "sidecar-0.0.1-linux-x64"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True, kw_only=True)
class Released:
    """The checkout, its bundle, the edition, and the folder that it was written into."""

    miniature: Miniature
    bundle: Path
    edition: ReleaseContents
    folder: Path

    @classmethod
    def make(cls, root: Path, *, part_bytes: int | None = None) -> Released:
        """Assemble and release below `root`."""
        miniature = Miniature.make(root / "project")
        bundle = miniature.project.output("linux-x64")
        miniature.assemble(bundle)
        base = tiny_base(root / "base.tar", more=("libstdc++.so.6", "libgcc_s.so.1"))
        edition = ReleaseContents(
            bundles=(read_bundle(bundle),),
            bases={"linux-x64": base},
            epoch=EPOCH,
            asked={},
            found={},
            inputs={"pdm.lock": "0" * 64},
            commit=COMMIT,
            part_bytes=part_bytes,
        )
        made = cls(miniature=miniature, bundle=bundle, edition=edition, folder=root / "release")
        made.write(made.folder)
        return made

    def write(self, folder: Path) -> None:
        """Release into `folder`, again."""
        folder.mkdir()
        write_release(self.edition, folder, Store(self.miniature.project.store), Progress())

    def path(self, suffix: str) -> Path:
        """Return an artifact of the bundle by what its name ends with."""
        return self.folder / f"{STEM}{suffix}"
