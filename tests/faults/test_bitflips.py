from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.support.bitflips import flip, named
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", range(5))
def test_every_file_with_a_flipped_bit_is_named_and_no_other(tmp_path: Path, seed: int) -> None:
    Miniature.make(tmp_path / "project").assemble(tmp_path / "bundle")
    assert named(tmp_path / "bundle") == set()
    flipped = flip(tmp_path / "bundle", 12, random.Random(seed))
    assert len(flipped) == 12
    assert named(tmp_path / "bundle") == set(flipped)
