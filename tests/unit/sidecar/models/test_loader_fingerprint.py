from __future__ import annotations

from typing import Any

import pytest

from sidecar.models.loader import fingerprint

BASE: dict[str, Any] = {
    "repository": "a/b",
    "revision": "0" * 40,
    "pooling": "mean",
    "normalize": True,
    "space": "exact",
}


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


def test_the_fingerprint_is_the_same_on_every_machine_and_in_every_release() -> None:
    assert fingerprint(**BASE) == "9c4f1018d67feb73"
