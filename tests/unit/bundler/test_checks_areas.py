from __future__ import annotations

import ast
import os
import subprocess
import time
from pathlib import Path

import pytest

from bundler.checks import DAY_S, Area, changed_within_a_day, concerned, read_areas

ROOT = Path(__file__).parents[3]


def area(name: str, *sources: str) -> Area:
    return Area(name=name, tests=(f"tests/{name}",), sources=sources, minutes=1)


RELEASE, SOAK = area("release", "build/bundler/release/*", "ci/*"), area("soak", "service/*")


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ("build/bundler/release/deep/file.py", ["release"]),
        ("service/sidecar/web/app.py", ["soak"]),
        ("tests/soak/test_soak.py", ["soak"]),
        ("tests/soaked.py", []),
        ("LICENSE", []),
    ],
)
def test_a_change_calls_for_the_areas_that_depend_on_it(changed: str, names: list[str]) -> None:
    assert [one.name for one in concerned([RELEASE, SOAK], [changed])] == names


def test_unknown_changes_call_for_every_area() -> None:
    assert concerned([RELEASE, SOAK], None) == (RELEASE, SOAK)


def git(root: Path, *words: str, age_s: float = 0) -> None:
    date = f"@{int(time.time() - age_s)} +0000"
    subprocess.run(
        ["git", "-c", "user.name=N", "-c", "user.email=n@example.org", *words],
        cwd=root,
        check=True,
        capture_output=True,
        env={**os.environ, "GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date},
    )


def commit(root: Path, name: str, *, age_s: float) -> None:
    (root / name).write_text(name, encoding="utf-8")
    git(root, "add", ".")
    git(root, "commit", "--message", name, age_s=age_s)


def test_changes_are_counted_from_the_newest_commit_older_than_a_day(tmp_path: Path) -> None:
    git(tmp_path, "init")
    commit(tmp_path, "old", age_s=3 * DAY_S)
    commit(tmp_path, "base", age_s=2 * DAY_S)
    commit(tmp_path, "committed", age_s=DAY_S / 2)
    (tmp_path / "with\tümlaut").touch()
    assert set(changed_within_a_day(tmp_path) or ()) == {"committed", "with\tümlaut"}


def test_a_history_of_less_than_a_day_tells_nothing(tmp_path: Path) -> None:
    git(tmp_path, "init")
    commit(tmp_path, "first", age_s=60)
    assert changed_within_a_day(tmp_path) is None


def test_a_folder_without_a_history_tells_nothing(tmp_path: Path) -> None:
    assert changed_within_a_day(tmp_path) is None


def test_the_shortest_area_comes_first() -> None:
    minutes = [one.minutes for one in read_areas(ROOT)]
    assert minutes == sorted(minutes)
    assert len(minutes) > 1


def marked(path: Path) -> bool:
    """Return whether a file of tests has the mark `full` anywhere."""
    return any(
        isinstance(node, ast.Attribute) and ast.unparse(node) == "pytest.mark.full"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_every_full_size_test_belongs_to_one_area() -> None:
    files = {path for path in (ROOT / "tests").rglob("test_*.py") if marked(path)}
    covered = [
        path
        for one in read_areas(ROOT)
        for test in one.tests
        for path in ([ROOT / test] if (ROOT / test).is_file() else (ROOT / test).rglob("test_*.py"))
    ]
    assert len(covered) == len(set(covered))
    assert set(covered) >= files != set()


def test_every_pattern_of_an_area_names_something() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, encoding="utf-8"
    ).stdout.splitlines()
    for one in read_areas(ROOT):
        for pattern in one.sources:
            alone = Area(name="", tests=(), sources=(pattern,), minutes=0)
            assert any(map(alone.concerns, listed)), (one.name, pattern)
