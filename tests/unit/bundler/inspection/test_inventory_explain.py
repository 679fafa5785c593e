from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.assembly.build_report import LeftOut
from bundler.errors import UsageError
from bundler.inspection.inventory import why
from tests.support.miniature import TARGET
from tests.support.stocked import SITE, Stocked

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.inspection.inventory import Inventory


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("provenance"))


def told(stocked: Stocked, asked: str) -> dict[str, str]:
    """Return what is said of `asked`, by the word each line begins with."""
    found = why(asked, stocked.bundle, stocked.inventory())
    pairs = (line.partition(" ") for line in found)
    return {word: rest.strip() for word, _, rest in pairs}


def test_a_file_that_is_there_has_component_package_and_bytes(stocked: Stocked) -> None:
    size = (stocked.bundle / SITE / "feather" / "barb.py").stat().st_size
    assert told(stocked, f"{SITE}/feather/barb.py") == {
        "path": f"{SITE}/feather/barb.py",
        "component": "packages",
        "package": "feather 1.0",
        "from": "feather-1.0-py3-none-any.whl",
        "bytes": str(size),
    }


@pytest.mark.parametrize(
    "asked",
    [
        "feather/barb.py",
        "./feather//barb.py",
        "lib/python3.11/site-packages/feather/barb.py",
        f"{SITE}/feather/../feather/barb.py",
    ],
)
def test_a_file_may_be_spelled_from_where_people_see_it(stocked: Stocked, asked: str) -> None:
    assert told(stocked, asked)["path"] == f"{SITE}/feather/barb.py"


def test_a_file_may_be_spelled_as_a_path_of_this_machine(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = stocked.bundle / "manifest.json"
    assert told(stocked, str(place))["path"] == "manifest.json"
    monkeypatch.chdir(stocked.bundle.parent)
    assert told(stocked, os.path.relpath(place))["component"] == "papers"


def test_a_removed_file_has_its_rule_the_reason_and_the_bytes_it_had(stocked: Stocked) -> None:
    assert told(stocked, "feather/tests/test_barb.py") == {
        "path": f"{SITE}/feather/tests/test_barb.py",
        "package": "feather 1.0",
        "from": "feather-1.0-py3-none-any.whl",
        "removed": "24 bytes, by the rule tests",
        "reason": "tests",
    }


def reporting(inventory: Inventory, package: str, left_out: LeftOut) -> Inventory:
    """Return `inventory` as if its report said this of a package, and nothing else."""
    (source,) = (one for one in inventory.sources if one.package == package)
    return replace(inventory, sources=(replace(source, left_out=(left_out,)),))


def test_a_stripped_file_has_both(stocked: Stocked) -> None:
    inventory = stocked.inventory()
    rule = next(one.rule for source in inventory.wheels() for one in source.left_out if one.rule)
    stripped = LeftOut(path=f"{SITE}/heavy_weight/native.so", size=9, rule=rule)
    inventory = reporting(inventory, "heavy-weight", stripped)
    text = "\n".join(why("heavy_weight/native.so", stocked.bundle, inventory))
    assert "component  heavy" in text
    assert "stripped   9 bytes" in text


def test_what_no_bundle_takes_is_said_to_be_so(stocked: Stocked) -> None:
    script = LeftOut(path=f"{SITE}/feather-1.0.data/scripts/run", size=24, rule=None)
    inventory = reporting(stocked.inventory(), "feather", script)
    found = why("feather-1.0.data/scripts/run", stocked.bundle, inventory)
    assert any("24 bytes, as in every bundle" in line for line in found)


def test_an_unknown_file_is_a_usage_error(stocked: Stocked) -> None:
    with pytest.raises(UsageError, match=r"nothing is known of feather/none\.py"):
        told(stocked, "feather/none.py")


def test_components_without_a_report_are_named(stocked: Stocked, tmp_path: Path) -> None:
    shutil.copytree(stocked.bundle, tmp_path / "bundle")
    with pytest.raises(UsageError) as caught:
        told(replace(stocked, bundle=tmp_path / "bundle"), "feather/tests/test_barb.py")
    assert "without a build report of python, heavy, packages" in caught.value.why


def test_what_a_runtime_lost_is_in_the_report(stocked: Stocked) -> None:
    inventory = stocked.inventory()
    (source,) = (one for one in inventory.sources if one.package == "CPython")
    assert source.file == stocked.miniature.locks.runtimes[TARGET.name].artifact.name
    assert source.left_out
    assert all(one.rule and one.path.startswith("python/") for one in source.left_out)
    there = {one.path for one in source.left_out} & inventory.files.keys()
    # Only bytecode is put back.
    assert all("__pycache__" in path for path in there)
