from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from bundler import atomic, checks
from bundler.checks import NO_TESTS, Suite
from bundler.console import Console
from bundler.errors import DiskError
from bundler.project import Project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TABLE = """
[area.short]
tests = ["tests/short"]
sources = ["service/*"]
minutes = 1

[area.long]
tests = ["tests/long"]
sources = ["service/*"]
minutes = 9

[area.other]
tests = ["tests/other"]
sources = ["docs/*"]
minutes = 2
"""

CONTRACT = """
[tool.importlinter]
root_packages = ["low"]

[[tool.importlinter.contracts]]
name = "One knows nothing of two"
type = "forbidden"
source_modules = ["low.one"]
forbidden_modules = ["low.two"]
"""


class Runs:
    """Stands for the programs that a suite runs: notes what it is asked, and answers `codes`."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.codes: dict[str, int] = {}

    def __call__(
        self, _: Project, arguments: list[str], more: Mapping[str, str] | None = None
    ) -> int:
        del more
        self.asked.append(arguments)
        return next((code for word, code in self.codes.items() if word in arguments), 0)

    def tests(self) -> list[list[str]]:
        return [
            [word for word in words if word.startswith("tests/")]
            for words in self.asked
            if "pytest" in words
        ]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr(checks, "_run", found)
    monkeypatch.setattr(checks, "changed_within_a_day", lambda _: ("service/a.py",))
    monkeypatch.setattr(atomic, "free_bytes", lambda _: 1 << 40)
    for variable in checks.BUNDLES:
        monkeypatch.setenv(variable, "a-bundle")
    return found


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def made(tmp_path: Path, said: io.StringIO) -> Suite:
    (tmp_path / "tests").mkdir()
    (tmp_path / checks.TABLE).write_text(TABLE, encoding="utf-8")
    return Suite(project=Project(root=tmp_path), console=Console(said))


def test_a_static_check_that_fails_does_not_hide_the_next(
    made: Suite, runs: Runs, said: io.StringIO
) -> None:
    runs.codes = {"format": 3, "mypy": 1}
    assert checks.static_checks(made.project, made.console) == 3
    assert "format: failed; python3 build check --fix corrects it\n" in said.getvalue()
    assert "lint: clean" in said.getvalue()
    assert "types: failed\n" in said.getvalue()
    assert "imports: clean" in said.getvalue()


ALWAYS = [list(checks.QUICK), list(checks.SLOW)]


def test_a_plain_run_leaves_out_what_is_full_size(made: Suite, runs: Runs) -> None:
    assert made.run(full=False, changed=False, within_min=None) == 0
    assert runs.tests() == ALWAYS
    assert all("not full" in words for words in runs.asked if "pytest" in words)
    assert not [words for words in runs.asked if "--cov" in words]


def test_a_full_run_selects_every_test_at_once(made: Suite, runs: Runs) -> None:
    assert made.run(full=True, changed=False, within_min=None) == 0
    assert runs.tests() == ALWAYS
    assert not [words for words in runs.asked if "not full" in words]
    (covered,) = [words for words in runs.asked if "--cov" in words]
    assert covered[-2:] == list(checks.QUICK)


def test_changed_areas_follow_the_shortest_first(
    made: Suite, runs: Runs, said: io.StringIO
) -> None:
    assert made.run(full=True, changed=True, within_min=45) == 0
    assert runs.tests() == [*ALWAYS, ["tests/short"], ["tests/long"]]
    assert "full size, run: short, long\n" in said.getvalue()
    assert "nothing they test changed: other\n" in said.getvalue()
    assert "for want of time: none\n" in said.getvalue()


def test_no_area_is_begun_when_the_time_is_over(made: Suite, runs: Runs, said: io.StringIO) -> None:
    assert made.run(full=True, changed=True, within_min=0) == 0
    assert runs.tests() == ALWAYS
    assert "for want of time: short, long\n" in said.getvalue()


def test_an_area_that_fails_does_not_hide_the_next(made: Suite, runs: Runs) -> None:
    runs.codes["tests/short"] = 1
    assert made.run(full=True, changed=True, within_min=None) == 1
    assert runs.tests()[-1] == ["tests/long"]


def test_an_area_without_a_test_here_is_no_failure(made: Suite, runs: Runs) -> None:
    runs.codes["tests/short"] = NO_TESTS
    assert made.run(full=True, changed=True, within_min=None) == 0


def test_a_failure_ends_the_run_and_still_shows_the_durations(
    made: Suite, runs: Runs, said: io.StringIO
) -> None:
    runs.codes["tests/unit"] = 1
    assert made.run(full=True, changed=True, within_min=None) == 1
    assert runs.tests() == [list(checks.QUICK)]
    assert "where the time went" in said.getvalue()


def test_too_little_disk_is_said_before_any_test(
    runs: Runs, made: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "free_bytes", lambda _: 1 << 30)
    with pytest.raises(DiskError, match="no room for the tests"):
        made.run(full=False, changed=False, within_min=None)
    assert runs.asked == []


def test_what_a_killed_run_left_in_scratch_is_removed(runs: Runs, made: Suite) -> None:
    left = made.project.out / "scratch" / "docker.0" / "layer"
    left.parent.mkdir(parents=True)
    left.touch()
    made.run(full=False, changed=False, within_min=None)
    assert runs.asked
    assert not left.exists()


def change(monkeypatch: pytest.MonkeyPatch, *paths: str) -> None:
    found = checks.Change(base="main (0000)", paths=paths)
    monkeypatch.setattr(checks, "changes", lambda _: found)


def checked(made: Suite, *, everything: bool = False) -> int:
    return checks.unit_tests(made.project, made.console, everything=everything)


def test_check_runs_what_a_change_needs(
    made: Suite, runs: Runs, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = made.project.root / "tests" / "unit" / "test_documents.py"
    wanted.parent.mkdir()
    wanted.touch()
    change(monkeypatch, "docs/api.md")
    assert checked(made) == 0
    assert runs.tests() == [["tests/unit/test_documents.py"]]
    assert "1 files, for what differs from main (0000); --all" in said.getvalue()


def test_check_runs_everything_for_what_no_rule_maps(
    made: Suite, runs: Runs, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch, "pdm.lock")
    runs.codes["tests/unit"] = 1
    assert checked(made) == 1
    assert runs.tests() == [["tests/unit"]]
    assert "all, for the change of pdm.lock" in said.getvalue()


def test_check_without_a_change_runs_no_test_and_says_so(
    made: Suite, runs: Runs, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch)
    assert checked(made) == 0
    assert runs.tests() == []
    assert "nothing differs from main (0000)" in said.getvalue()


@pytest.mark.parametrize("everything", [True, False])
def test_check_runs_everything_when_asked_or_without_git(
    made: Suite, runs: Runs, monkeypatch: pytest.MonkeyPatch, *, everything: bool
) -> None:
    if everything:
        change(monkeypatch, "docs/api.md")
    assert checked(made, everything=everything) == 0
    assert runs.tests() == [["tests/unit"]]


def test_import_checker_speaks_only_of_broken_contracts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "build" / "low").mkdir(parents=True)
    (tmp_path / "build" / "low" / "__init__.py").touch()
    source = tmp_path / "build" / "low" / "one.py"
    source.touch()
    (tmp_path / "build" / "low" / "two.py").touch()
    (tmp_path / "pyproject.toml").write_text(CONTRACT, encoding="utf-8")
    project = Project(root=tmp_path)
    assert checks._run(project, ["-c", checks.IMPORTS]) == 0
    assert capfd.readouterr() == ("", "")
    source.write_text("import low.two\n", encoding="utf-8")
    assert checks._run(project, ["-c", checks.IMPORTS]) == 1
    assert "low.one is not allowed to import low.two" in capfd.readouterr().err
