from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler import atomic
from bundler.atomic import disk_error, publish, rename, replace, stage_beside, whole
from bundler.errors import DiskError
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[str]]:
    """Refuse the first renames of every path, as Windows does while a scanner reads it."""

    def held(tries: int, pauses: int) -> list[str]:
        refused: list[str] = []

        def wrapped(act: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
            def scanned(self: Path, target: Path) -> Path:
                if refused.count(str(self)) < tries:
                    refused.append(str(self))
                    raise PermissionError(errno.EACCES, "Access is denied", str(self))
                return act(self, target)

            return scanned

        monkeypatch.setattr(atomic, "PAUSES", (0.0,) * pauses)
        monkeypatch.setattr(Path, "rename", wrapped(Path.rename))
        monkeypatch.setattr(Path, "replace", wrapped(Path.replace))
        return refused

    return held


@pytest.mark.parametrize("act", [rename, replace])
def test_a_file_that_is_held_for_a_moment_is_renamed(
    tmp_path: Path, hold: Callable[[int, int], list[str]], act: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    refused = hold(3, 3)
    act(tmp_path / "a", tmp_path / "b")
    assert len(refused) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("act", [rename, replace])
def test_a_file_that_stays_held_is_an_error_after_the_last_try(
    tmp_path: Path, hold: Callable[[int, int], list[str]], act: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    refused = hold(4, 3)
    with pytest.raises(PermissionError):
        act(tmp_path / "a", tmp_path / "b")
    assert len(refused) == 4


def test_a_missing_file_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "PAUSES", (3600.0,))
    with pytest.raises(FileNotFoundError):
        rename(tmp_path / "a", tmp_path / "b")


def test_other_systems_refuse_at_once(
    tmp_path: Path, hold: Callable[[int, int], list[str]]
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    refused = hold(1, 0)
    with pytest.raises(PermissionError):
        rename(tmp_path / "a", tmp_path / "b")
    assert len(refused) == 1


def test_a_bundle_whose_files_are_held_is_assembled_and_renewed(
    tmp_path: Path, hold: Callable[[int, int], list[str]]
) -> None:
    miniature = Miniature.make(tmp_path / "project")
    refused = hold(1, 1)
    miniature.assemble(tmp_path / "bundle")
    assert any(path.endswith("python3.11") for path in refused)
    miniature.write_service("sidecar/more.py", "x = 1\n")
    refused.clear()
    miniature.assemble(tmp_path / "bundle")
    assert (tmp_path / "bundle/embedding_sidecar/sidecar/more.py").is_file()
    # The old bundle, on its way out, and the new one.
    assert len([path for path in refused if Path(path).parent == tmp_path]) == 2
    made = ["bundle", "bundle.build-report.json", "project"]
    assert sorted(path.name for path in tmp_path.iterdir()) == made


def test_an_archive_that_is_held_gets_its_name(
    tmp_path: Path, hold: Callable[[int, int], list[str]]
) -> None:
    hold(1, 1)
    with whole(tmp_path / "archive") as stream:
        stream.write(b"x")
    assert (tmp_path / "archive").read_bytes() == b"x"


def test_an_old_bundle_that_stays_held_is_left_as_it_is(
    tmp_path: Path, hold: Callable[[int, int], list[str]]
) -> None:
    place = tmp_path / "bundle"
    place.mkdir()
    (place / "old").write_bytes(b"")
    with stage_beside(place) as stage:
        hold(9, 2)
        with pytest.raises(PermissionError):
            publish(stage, place)
    assert [path.name for path in place.iterdir()] == ["old"]


@pytest.mark.parametrize("winerror", [5, 32])
def test_what_windows_holds_is_told_with_who_may_hold_it(tmp_path: Path, winerror: int) -> None:
    class HeldError(PermissionError):
        """Has the number that only Windows gives."""

    refused = HeldError(errno.EACCES, "Access is denied")
    refused.winerror = winerror  # type: ignore[attr-defined]
    error = disk_error(refused, tmp_path, purpose="the bundle")
    assert isinstance(error, DiskError)
    assert "another program has a file there open" in error.why
    assert "virus scanner" in error.next_step
