"""One bit flipped in each of some files of a bundle: `verify` names those files and no other."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from bundler.console import Progress
from bundler.errors import VerificationError
from bundler.inspection.inventory import PAPERS, take_stock
from bundler.verify import verify
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from pathlib import Path


def flip(root: Path, count: int, chance: random.Random) -> list[str]:
    """Flip a bit in `count` files that the manifest lists; return their paths, sorted."""
    owned = take_stock(root)
    papers = {document.path for document in owned.manifest.documents}
    paths = [
        path
        for path, file in owned.files.items()
        if file.entry.size and (file.component != PAPERS or path in papers)
    ]
    chosen = sorted(chance.sample(paths, min(count, len(paths))))
    for path in chosen:
        place = chance.randrange(owned.files[path].entry.size)
        with (root / path).open("r+b") as stream:
            stream.seek(place)
            (byte,) = stream.read(1)
            stream.seek(place)
            stream.write(bytes([byte ^ (1 << chance.randrange(8))]))
    return chosen


def named(root: Path) -> set[str]:
    """Return the paths that verify names as changed."""
    try:
        verify(root, Progress())
    except VerificationError as error:
        lines = (line.strip() for line in error.why.splitlines())
        changed = (line.removeprefix("changed: ") for line in lines if line.startswith("changed: "))
        return {line.rpartition(" (")[0] for line in changed}
    return set()


@pytest.mark.parametrize("seed", range(5))
def test_every_file_with_a_flipped_bit_is_named_alone(tmp_path: Path, seed: int) -> None:
    Miniature.make(tmp_path / "project").assemble(tmp_path / "bundle")
    assert named(tmp_path / "bundle") == set()
    flipped = flip(tmp_path / "bundle", 12, random.Random(seed))
    assert len(flipped) == 12
    assert named(tmp_path / "bundle") == set(flipped)
