from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler.assembly import path_rules
from bundler.assembly.path_rules import has_long_paths, require_room
from bundler.errors import UsageError
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEP = Path("/c" * 100)


class Registry:
    """The two calls of winreg that are made, over one value; None is a value that is not there."""

    HKEY_LOCAL_MACHINE = 0x80000002

    def __init__(self, value: int | None, *, has_key: bool = True) -> None:
        self.value = value
        self.has_key = has_key

    @contextlib.contextmanager
    def OpenKey(self, root: int, path: str) -> Iterator[str]:  # noqa: N802 - winreg's name
        assert root == self.HKEY_LOCAL_MACHINE
        assert path == r"SYSTEM\CurrentControlSet\Control\FileSystem"
        if not self.has_key:
            raise FileNotFoundError(2, "The system cannot find the file specified")
        yield path

    def QueryValueEx(self, _key: str, name: str) -> tuple[int, int]:  # noqa: N802 - winreg's name
        assert name == "LongPathsEnabled"
        if self.value is None:
            raise FileNotFoundError(2, "The system cannot find the file specified")
        return self.value, 4


@pytest.mark.parametrize(
    ("registry", "is_on"),
    [
        (Registry(1), True),
        (Registry(0), False),
        (Registry(None), False),
        (Registry(1, has_key=False), False),
    ],
)
def test_long_paths_are_on_where_the_registry_says_so(registry: Registry, *, is_on: bool) -> None:
    assert has_long_paths(registry) is is_on


@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("a" * 58, True),
        ("a" * 59, False),
        # A letter of two units.
        ("\N{OLD ITALIC LETTER A}" * 29, True),
        ("\N{OLD ITALIC LETTER A}" * 30, False),
        (f"{'a' * 46}/b", True),
        (f"{'a' * 47}/b", False),
    ],
)
def test_a_path_is_refused_from_its_260th_character_a_folder_from_its_248th(
    path: str, *, fits: bool
) -> None:
    refused = contextlib.nullcontext() if fits else pytest.raises(UsageError)
    with refused:
        require_room(DEEP, ["short", path], Registry(0))
    require_room(DEEP, ["short", path], Registry(1))


def test_the_error_has_the_command_that_helps() -> None:
    with pytest.raises(UsageError) as caught:
        require_room(DEEP, ["b" * 70, "c" * 80], Registry(None))
    assert caught.value.what.startswith("2 paths")
    assert "has 281 characters" in caught.value.why
    assert (
        r"reg add HKLM\SYSTEM\CurrentControlSet\Control\FileSystem /v LongPathsEnabled "
        "/t REG_DWORD /d 1 /f"
    ) in caught.value.next_step


def test_other_systems_have_no_registry() -> None:
    assert path_rules.windows_registry() is None


def test_a_bundle_in_too_deep_a_folder_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    miniature = Miniature.make(tmp_path / "project")
    deep = tmp_path / ("d" * 150)
    monkeypatch.setattr(path_rules, "windows_registry", lambda: Registry(0))
    with pytest.raises(UsageError, match="longer than Windows allows") as caught:
        miniature.assemble(deep / "bundle")
    # The longest path of the miniature is a file of its model.
    assert "/1_Pooling/config.json has " in caught.value.why
    assert list(deep.iterdir()) == []
    monkeypatch.setattr(path_rules, "windows_registry", lambda: Registry(1))
    miniature.assemble(deep / "bundle")
