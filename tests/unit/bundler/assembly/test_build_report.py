from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.assembly.build_report import SUFFIX, read_report, report_path
from bundler.inspection.sizes import by_rule
from tests.support.miniature import Miniature
from tests.support.stocked import SITE, Stocked

if TYPE_CHECKING:
    from pathlib import Path

TEST = f"{SITE}/feather/tests/test_barb.py"
TEST_SIZE = len("def test() -> None: ...\n")


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("reports"))


def test_a_removed_file_is_told_with_its_rule_and_the_bytes_it_had(stocked: Stocked) -> None:
    (source,) = read_report(stocked.bundle)["packages"].sources
    assert (source.package, source.version) == ("feather", "1.0")
    assert source.file == "feather-1.0-py3-none-any.whl"
    (one,) = [one for one in source.left_out if one.rule]
    assert (one.path, one.size) == (TEST, TEST_SIZE)
    assert one.rule is not None
    assert (one.rule.name, one.rule.action, one.rule.reason) == ("tests", "remove", "tests")


def test_nothing_is_left_out_by_a_profile_without_rules(tmp_path: Path) -> None:
    stocked = Stocked.make(tmp_path, profile="none")
    wheels = stocked.inventory().wheels()
    assert wheels
    assert [one for source in wheels for one in source.left_out if one.rule] == []


def test_a_component_taken_over_keeps_its_part(tmp_path: Path) -> None:
    miniature = Miniature.make(tmp_path / "project")
    miniature.assemble(tmp_path / "bundle")
    before = read_report(tmp_path / "bundle")
    miniature.write_service("sidecar/cli.py", "def main() -> int:\n    return 1\n")
    assert miniature.assemble(tmp_path / "bundle").made == ("service",)
    after = read_report(tmp_path / "bundle")
    assert after["service"].inputs != before["service"].inputs
    assert {**after, "service": before["service"]} == before


def test_a_part_about_other_inputs_is_unknown(tmp_path: Path) -> None:
    stocked = Stocked.make(tmp_path)
    path = report_path(stocked.bundle)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["components"]["packages"]["inputs"] = "0" * 64
    path.write_text(json.dumps(document), encoding="utf-8")
    assert stocked.inventory().unknown == ("packages",)
    assert "feather" not in {source.package for source in stocked.inventory().sources}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "components": 3}']
)
def test_what_is_no_report_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / f"bundle{SUFFIX}").write_text(text, encoding="utf-8")
    assert read_report(tmp_path / "bundle") == {}


def test_savings_are_summed_by_rule_the_most_first(stocked: Stocked) -> None:
    (one,) = [o for s in stocked.inventory().wheels() for o in s.left_out if o.rule]
    assert one.rule is not None
    other = replace(one, size=5000, rule=replace(one.rule, name="large"))
    savings = by_rule([one, other, one, replace(one, rule=None)])
    assert [(s.rule, s.files, s.size) for s in savings] == [
        ("large", 1, 5000),
        ("tests", 2, 2 * TEST_SIZE),
    ]
