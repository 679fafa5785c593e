from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest

from sidecar.process import limits


class Library:
    """A C library that remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

        def trim(pad: int) -> None:
            self.asked.append(pad)

        self.malloc_trim = trim


def test_memory_is_given_back_each_time_where_the_c_library_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = Library()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    give_back = limits.trimmer()
    assert library.asked == []
    give_back()
    give_back()
    assert library.asked == [0, 0]


def test_this_machine_can_be_asked() -> None:
    limits.trimmer()()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_nothing_is_looked_up_on_other_systems(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", None)
    limits.trimmer()()


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_a_c_library_without_it_is_no_error(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def missing(_: Any) -> None:
        raise error

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    limits.trimmer()()
