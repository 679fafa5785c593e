"""The proof of a profile on a real bundle: that it holds, and that it would fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler import tracer
from bundler.errors import SmokeError
from bundler.project import Project
from bundler.recipe import read_recipe
from bundler.trace import exercise, parse, prove
from sidecar.manifest import read

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_that_runs_reaches_for_what_the_diet_removed(bundle: Path) -> None:
    proved = prove(bundle, read_recipe(Project.here().recipe), ["hello"])
    assert proved.modules > 1000
    assert proved.files > 1000


def test_an_import_that_is_shrugged_off_is_a_failure_if_a_rule_removed_the_module(
    bundle: Path,
) -> None:
    """FastAPI looks for orjson and goes on without it; no bundle has it."""
    recipe = read_recipe(Project.here().recipe)
    rule = {
        "package": "orjson",
        "paths": ["orjson/**"],
        "profiles": [read(bundle).profile],
        "reason": "a second way to write JSON",
    }
    diet = {**recipe.sections["diet"]}
    diet["rules"] = {**diet["rules"], "json": rule}
    with pytest.raises(SmokeError) as caught:
        prove(bundle, replace(recipe, sections={**recipe.sections, "diet": diet}), ["hello"])
    assert "imported orjson" in caught.value.why
    assert "the rule json (a second way to write JSON)" in caught.value.why


def test_the_reader_of_pdfs_is_traced_too(bundle: Path, tmp_path: Path) -> None:
    record = tmp_path / "report"
    exercise(bundle, tmp_path, [], through=(tracer.__file__, str(record), str(bundle)))
    seen = parse(record.read_text(encoding="utf-8"))
    assert {"pypdf", "sidecar", "numpy"} <= seen.modules
    assert any(path.endswith(".so") for path in seen.opened)
