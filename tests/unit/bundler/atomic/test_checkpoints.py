from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bundler import atomic
from bundler.project import Project

if TYPE_CHECKING:
    import pytest


def test_listeners_hear_every_name_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_listeners", [])
    one: list[str] = []
    two: list[str] = []
    atomic.reach("before")
    atomic.listen(one.append)
    atomic.reach("first")
    atomic.listen(two.append)
    atomic.reach("second")
    assert one == ["first", "second"]
    assert two == ["second"]


def test_the_code_reaches_exactly_the_names_that_are_listed() -> None:
    found: set[str] = set()
    for path in (Project.here().root / "build" / "bundler").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r'\breach\("([^"]+)"\)', text))
    assert found == set(atomic.CHECKPOINTS)
