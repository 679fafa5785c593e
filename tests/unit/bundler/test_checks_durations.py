from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.checks import durations_table, read_durations

if TYPE_CHECKING:
    from pathlib import Path

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest">
<testcase classname="tests.smoke.test_up" name="test_a" time="2.5"/>
<testcase classname="tests.smoke.test_up" name="test_b[x.y]" time="4.25"/>
<testcase classname="tests.unit.bundler.test_plan.TestClass" name="test_c" time="0.5"/>
<testcase classname="" name="tests.faults.test_broken" time="0.0"/>
</testsuite></testsuites>
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "00.xml"
    path.write_text(REPORT, encoding="utf-8")
    return path


def test_a_report_is_added_up_by_file(report: Path) -> None:
    assert read_durations([report]) == {
        "tests/faults/test_broken.py": (1, 0.0),
        "tests/smoke/test_up.py": (2, 6.75),
        "tests/unit/bundler/test_plan.py": (1, 0.5),
    }


def test_two_runs_of_one_file_are_added_up(report: Path) -> None:
    assert read_durations([report, report])["tests/smoke/test_up.py"] == (4, 13.5)


def test_a_run_that_wrote_no_report_has_no_durations(tmp_path: Path) -> None:
    assert read_durations([tmp_path / "absent.xml"]) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<testsuites><testsuite><testcase ",
        '<testsuites><testcase time="1"/></testsuites>',
        '<testsuites><testcase classname="pytest" name="internal" time="1"/></testsuites>',
    ],
)
def test_a_report_of_a_run_that_broke_off_is_passed_over(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "00.xml"
    broken.write_text(text, encoding="utf-8")
    assert read_durations([broken]) == {}


def test_the_table_names_parts_folders_and_slow_files(report: Path) -> None:
    lines = durations_table(read_durations([report]), {"static checks": 3.04}).splitlines()
    assert lines[1:] == [
        "     3.0  static checks",
        "     6.8  tests/smoke, 2 tests",
        "     0.5  tests/unit, 1 tests",
        "     0.0  tests/faults, 1 tests",
        "     6.8  tests/smoke/test_up.py, 2 tests",
        "     0.5  2 files below 5 s each",
    ]
