from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.inspection.inventory import Owner
from bundler.inspection.omissions import by_rule, omissions, place_of, rules_of
from bundler.targets import TARGETS
from tests.support.stocked import SITE, Stocked

if TYPE_CHECKING:
    from pathlib import Path

TEST = f"{SITE}/feather/tests/test_barb.py"
TEST_SIZE = len("def test() -> None: ...\n")


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("omissions"))


def test_a_removed_file_is_found_again_with_its_rule_and_the_bytes_it_had(stocked: Stocked) -> None:
    (omission,) = [o for o in stocked.left_out().found if o.rule]
    assert (omission.path, omission.size) == (TEST, TEST_SIZE)
    assert omission.package == Owner(name="feather", version="1.0")
    assert omission.rule is not None
    assert omission.rule.name == "tests"


def test_nothing_is_left_out_by_a_profile_without_rules(tmp_path: Path) -> None:
    stocked = Stocked.make(tmp_path, profile="none")
    assert [o for o in stocked.left_out().found if o.rule] == []
    assert rules_of(stocked.miniature.recipe, stocked.inventory().manifest) == ()


def test_what_stripping_saved_is_the_wheels_file_less_the_bundles(stocked: Stocked) -> None:
    recipe = stocked.miniature.recipe
    rule = {
        "package": "heavy-weight",
        "action": "strip",
        "paths": ["heavy_weight/*.so"],
        "reason": "symbols",
        "profiles": ["safe"],
    }
    diet = {"profiles": ["none", "safe"], "rules": {"symbols": rule}}
    inventory = stocked.inventory()
    path = f"{SITE}/heavy_weight/native.so"
    owned = inventory.files[path]
    smaller = replace(owned, entry=replace(owned.entry, size=owned.entry.size - 7))
    left_out = omissions(
        replace(recipe, sections={**recipe.sections, "diet": diet}),
        stocked.miniature.locks.wheels,
        stocked.store,
        replace(inventory, files={**inventory.files, path: smaller}),
    )
    assert [(o.path, o.size) for o in left_out.found if o.rule] == [(path, 7)]


def test_a_wheel_that_the_store_lacks_is_named(stocked: Stocked, tmp_path: Path) -> None:
    left_out = replace(stocked, store=type(stocked.store)(tmp_path)).left_out()
    assert left_out.found == ()
    assert len(left_out.absent) == 2


def test_a_wheel_that_the_lock_knows_in_another_version_is_named(stocked: Stocked) -> None:
    inventory = stocked.inventory()
    others = {path: o for path, o in inventory.files.items() if "feather-1.0.dist-info" not in path}
    left_out = omissions(
        stocked.miniature.recipe,
        stocked.miniature.locks.wheels,
        stocked.store,
        replace(inventory, files=others),
    )
    assert left_out.foreign == ("feather 1.0",)
    assert [o for o in left_out.found if o.rule] == []


def test_savings_are_summed_by_rule_the_most_first(stocked: Stocked) -> None:
    (omission,) = [o for o in stocked.left_out().found if o.rule]
    assert omission.rule is not None
    other = replace(omission, size=5000, rule=replace(omission.rule, name="large"))
    savings = by_rule([omission, other, omission, replace(omission, rule=None)])
    assert [(s.rule.name, s.files, s.size) for s in savings] == [
        ("large", 1, 5000),
        ("tests", 2, 2 * TEST_SIZE),
    ]


@pytest.mark.parametrize(
    ("member", "place"),
    [
        ("feather/barb.py", "feather/barb.py"),
        ("single.py", "single.py"),
        ("a-1.data/purelib/a/b.py", "a/b.py"),
        ("a-1.data/platlib/a.so", "a.so"),
        ("a-1.data/data/share/a.txt", "../../../share/a.txt"),
        ("a-1.data/scripts/run", None),
        ("a-1.data/headers/a.h", None),
    ],
)
def test_a_member_goes_where_its_scheme_says(member: str, place: str | None) -> None:
    assert place_of(member, TARGETS["linux-x64"]) == place


def test_a_bundle_without_wheels_lacks_none(stocked: Stocked, tmp_path: Path) -> None:
    shutil.copytree(stocked.miniature.root, tmp_path / "copy", ignore=shutil.ignore_patterns("out"))
    miniature = replace(stocked.miniature, root=tmp_path / "copy")
    bundle = tmp_path / "bundle"
    miniature.assemble(bundle, parts=("service",))
    left_out = replace(stocked, miniature=miniature, bundle=bundle).left_out()
    assert (left_out.found, left_out.absent, left_out.foreign) == ((), (), ())
