from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundler import atomic
from bundler.atomic import MARK, OLD, publish, stage_beside, sweep
from tests.support import assembler

HOLDER = """
import sys
from pathlib import Path
from bundler.atomic import stage_beside
with stage_beside(Path(sys.argv[1])) as stage:
    stage.with_name(f"{stage.name}.kin").mkdir()
    print(stage, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir())


def fill(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(text, encoding="utf-8")
    return folder


def text(folder: Path) -> str:
    return (folder / "file").read_text(encoding="utf-8")


def test_a_stage_is_empty_beside_its_place_and_gone_afterwards(place: Path) -> None:
    with stage_beside(place / "deeper" / "bundle") as stage:
        assert stage.parent == place / "deeper"
        assert list(stage.iterdir()) == []
        stage.with_name(f"{stage.name}.python").mkdir()
    assert list((place / "deeper").iterdir()) == []


def test_a_stage_is_gone_after_a_failure(place: Path) -> None:
    def fail() -> None:
        with stage_beside(place) as stage:
            fill(stage, "half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names(place) == []


def test_publishing_into_nothing_is_one_rename(place: Path) -> None:
    with stage_beside(place) as stage:
        publish(fill(stage, "new"), place)
    assert text(place) == "new"
    assert names(place) == ["bundle"]


def test_publishing_replaces_what_was_there_whole(place: Path) -> None:
    fill(place, "old")
    (place / "only in the old one").write_bytes(b"")
    with stage_beside(place) as stage:
        publish(fill(stage, "new"), place)
    assert [path.name for path in place.iterdir()] == ["file"]
    assert names(place) == ["bundle"]


def test_a_publish_that_fails_half_way_gives_the_old_bundle_back(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(place, "old")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.startswith(MARK):
            raise OSError(errno.EIO, "no")
        return rename(self, target)

    with stage_beside(place) as stage:
        monkeypatch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="no"):
            publish(fill(stage, "new"), place)
    assert text(place) == "old"
    assert names(place) == ["bundle"]


def test_a_bundle_that_another_run_publishes_in_between_is_replaced(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(place, "old")

    def other(name: str) -> None:
        if name == "assemble.aside" and not place.exists() and not seen:
            seen.append(name)
            fill(place, "other")

    seen: list[str] = []
    monkeypatch.setattr(atomic, "_listeners", [other])
    with stage_beside(place) as stage:
        publish(fill(stage, "new"), place)
    assert seen
    assert text(place) == "new"
    assert names(place) == ["bundle"]


def test_what_dead_runs_left_is_swept(place: Path) -> None:
    fill(place, "old")
    for name in (f"{MARK}bundle-0a1b", f"{MARK}bundle-0a1b.python", f"{OLD}bundle-77"):
        fill(place.with_name(name), "left")
    sweep(place)
    assert names(place) == ["bundle"]
    assert text(place) == "old"


def test_a_bundle_set_aside_by_a_dead_run_comes_back(place: Path) -> None:
    fill(place.with_name(f"{OLD}bundle-0a1b"), "old")
    fill(place.with_name(f"{MARK}bundle-0a1b"), "half")
    sweep(place)
    assert text(place) == "old"
    assert names(place) == ["bundle"]


def test_what_belongs_to_other_places_is_left_alone(place: Path) -> None:
    others = [
        f"{MARK}bundle-two-0a1b",
        f"{OLD}bundle-two-0a1b",
        f"{OLD}bundle-xyz",
        f"{MARK}Bundle-0a1b",
        "notes-0a1b",
    ]
    for name in others:
        fill(place.with_name(name), "theirs")
    sweep(place)
    assert names(place) == sorted(others)
    assert not place.exists()


def test_on_windows_what_stands_beside_a_bundle_has_a_short_name(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "IS_WINDOWS", True)
    monkeypatch.setattr(atomic, "try_lock", lambda _: None)
    fill(place, "old")
    aside: list[str] = []
    monkeypatch.setattr(atomic, "_listeners", [lambda _: aside.extend(names(place))])
    with stage_beside(place) as stage:
        publish(fill(stage, "new"), place)
    beside = {name for name in aside if name != "bundle"}
    assert stage.name in beside
    assert sorted((name[:2], len(name)) for name in beside) == [(".o", 13), (".s", 13)]
    assert text(place) == "new"
    assert names(place) == ["bundle"]


def test_on_windows_what_dead_runs_left_is_known_by_its_short_name(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "IS_WINDOWS", True)
    with stage_beside(place) as stage, stage_beside(place.with_name("bundle-two")) as other:
        pass
    for path in (stage, stage.with_name(f"{stage.name}.0"), other):
        fill(path, "left")
    fill(place.with_name(stage.name.replace(".s", ".o")), "old")
    sweep(place.with_name("Bundle"))
    assert text(place.with_name("Bundle")) == "old"
    assert names(place) == sorted([other.name, "Bundle"])


def test_a_name_with_characters_of_patterns_is_taken_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "[my] *app*"
    fill(place.with_name(f"{MARK}{place.name}-0a1b"), "left")
    sweep(place)
    assert names(place) == []


def test_sweeping_where_no_folder_is_yet_does_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "none" / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked there")
def test_a_stage_whose_process_lives_is_left_alone_with_its_kin(place: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-B", "-c", HOLDER, str(place)],
        env=assembler.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert holder.stdout is not None
    stage = Path(holder.stdout.readline().strip())
    sweep(place)
    with stage_beside(place):
        pass
    assert names(place) == [stage.name, f"{stage.name}.kin"]
    holder.kill()
    holder.communicate()
    sweep(place)
    assert names(place) == []


def test_where_locks_do_not_work_only_what_is_a_day_old_is_swept(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "try_lock", lambda _: None)
    young, old = (fill(place.with_name(f"{MARK}bundle-{n}"), "") for n in ("11", "22"))
    os.utime(old, (1, 1))
    sweep(place)
    assert names(place) == [young.name]
