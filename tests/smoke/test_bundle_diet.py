"""The proof of a profile on a real bundle: that it holds, and that it would fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.errors import SmokeError
from bundler.inspection import tracer
from bundler.inspection.inventory import take_stock
from bundler.inspection.sizes import weigh
from bundler.project import Project
from bundler.recipe import read_recipe
from bundler.smoke import exercise, parse, prove
from sidecar.manifest import read

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_that_runs_reaches_for_what_the_diet_removed(bundle: Path) -> None:
    recipe = read_recipe(Project.here().recipe)
    packed, reference = (
        prove(bundle, recipe, ["hello"], engine=engine) for engine in ("packed", "reference")
    )
    assert 300 < packed.modules < 1000 < reference.modules
    assert 300 < packed.files < 1000 < reference.files


def test_optional_import_of_a_removed_module_is_a_failure(
    bundle: Path,
) -> None:
    """FastAPI looks for ujson and goes on without it; no bundle has it."""
    recipe = read_recipe(Project.here().recipe)
    rule = {
        "package": "ujson",
        "paths": ["ujson/**"],
        "profiles": [read(bundle).profile],
        "reason": "a second way to write JSON",
    }
    diet = {**recipe.sections["diet"]}
    diet["rules"] = {**diet["rules"], "json": rule}
    with pytest.raises(SmokeError) as caught:
        prove(bundle, replace(recipe, sections={**recipe.sections, "diet": diet}), ["hello"])
    assert "imported ujson" in caught.value.why
    assert "the rule json (a second way to write JSON)" in caught.value.why


def test_the_reader_of_pdfs_is_traced_too(bundle: Path, tmp_path: Path) -> None:
    record = tmp_path / "report"
    exercise(bundle, tmp_path, [], through=(tracer.__file__, str(record), str(bundle)))
    seen = parse(record.read_text(encoding="utf-8"))
    assert {"pypdfium2_raw", "sidecar", "numpy"} <= seen["module"]
    assert any(path.endswith(".so") for path in seen["open"])


def test_savings_are_known_for_every_package(bundle: Path) -> None:
    assert weigh(take_stock(bundle)).components_without_report == ()
