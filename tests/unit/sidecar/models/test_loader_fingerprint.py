from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.models.loader import Loaded
from sidecar.models.snapshot import Snapshot
from tests.support.stub_engine import StubEngine

if TYPE_CHECKING:
    from sidecar.engines import SpaceClass

BASE: dict[str, Any] = {
    "repository": "a/b",
    "revision": "0" * 40,
    "pooling": "mean",
    "normalize": True,
    "space": "exact",
}


def fingerprint(
    *, repository: str, revision: str, pooling: str, normalize: bool, space: SpaceClass
) -> str:
    engine = StubEngine()
    engine.space = space
    found = Snapshot(repository=repository, revision=revision, path=Path())
    return Loaded(engine=engine, snapshot=found).fingerprint(pooling=pooling, normalize=normalize)


@pytest.mark.parametrize(
    "change",
    [
        {"repository": "a/c"},
        {"revision": "1" * 40},
        {"pooling": "cls"},
        {"normalize": False},
        {"space": "int8"},
    ],
    ids=str,
)
def test_another_space_has_another_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(**BASE) != fingerprint(**(BASE | change))


def test_fingerprint_is_the_same_on_every_machine() -> None:
    assert fingerprint(**BASE) == "9c4f1018d67feb73"
