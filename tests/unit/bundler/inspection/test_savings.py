from __future__ import annotations

import copy
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bundler.errors import UsageError
from bundler.inspection.sizes import SAVES_COMMAND, Sizes, recorded, saves_entries, stale, weigh
from bundler.profiles import parse_rules
from bundler.project import Project
from bundler.recipe import Recipe, read_recipe
from tests.support.stocked import Stocked

if TYPE_CHECKING:
    from collections.abc import Callable

Record = dict[str, Any]


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("savings"))


@pytest.fixture(scope="module")
def sizes(stocked: Stocked) -> Sizes:
    return weigh(stocked.inventory())


@pytest.fixture
def recording(stocked: Stocked) -> Callable[[object], Recipe]:
    """Return the miniature's recipe, its one rule with other `saves`."""

    def make(saves: object) -> Recipe:
        sections = copy.deepcopy(dict(stocked.miniature.recipe.sections))
        sections["diet"]["rules"]["tests"]["saves"] = saves
        return replace(stocked.miniature.recipe, sections=sections)

    return make


def measured(sizes: Sizes) -> int:
    (saving,) = sizes.savings
    return saving.size


def test_every_committed_rule_says_why_and_what_it_was_measured_to_save() -> None:
    recipe = read_recipe(Project.here().recipe)
    rules = parse_rules(recipe.sections["diet"])
    saves = recorded(recipe)
    assert [rule.name for rule in rules if not rule.reason] == []
    unmeasured = [rule.name for rule in rules if not saves[rule.name]]
    assert unmeasured == [], f"`{SAVES_COMMAND} BUNDLE` prints what they save in an assembled one"


def test_the_figure_of_the_bundle_is_not_stale(
    sizes: Sizes, recording: Callable[[Record], Recipe]
) -> None:
    assert stale(recording({"linux-x64": measured(sizes)}), sizes) == ()


def test_a_figure_that_is_not_the_bundles_is_told_with_both(
    sizes: Sizes, recording: Callable[[Record], Recipe]
) -> None:
    (told,) = stale(recording({"linux-x64": 5}), sizes)
    assert told.startswith("tests: 5 bytes in the recipe")
    assert f"{measured(sizes)} in this bundle for linux-x64" in told


def test_a_rule_without_a_figure_is_told(
    sizes: Sizes, recording: Callable[[Record], Recipe]
) -> None:
    (told,) = stale(recording({}), sizes)
    assert told.startswith("tests: no bytes in the recipe")


@pytest.mark.parametrize("saves", [{"linux-x64": 5}, {}])
def test_a_rule_that_saves_nothing_is_told(
    sizes: Sizes, recording: Callable[[Record], Recipe], saves: Record
) -> None:
    (told,) = stale(recording(saves), replace(sizes, savings=()))
    assert "0 in this bundle" in told


def test_a_bundle_says_nothing_of_other_targets_or_of_another_profiles_rules(
    sizes: Sizes, recording: Callable[[Record], Recipe]
) -> None:
    assert stale(recording({"win-x64": 5}), sizes) == ()
    assert list(saves_entries(recording({"win-x64": 5}), sizes)) == []
    unslimmed = replace(sizes, profile="none", savings=())
    assert stale(recording({"linux-x64": 5}), unslimmed) == ()


@pytest.mark.parametrize("before", [{}, {"linux-x64": 5}, {"win-x64": 7, "linux-x64": 5}])
def test_what_is_printed_can_be_pasted_and_is_not_stale_then(
    sizes: Sizes, recording: Callable[[Record], Recipe], before: Record
) -> None:
    text = "\n".join(saves_entries(recording(before), sizes))
    saves = tomllib.loads(text)["diet"]["rules"]["tests"]["saves"]
    assert saves == {**before, "linux-x64": measured(sizes)}
    assert stale(recording(saves), sizes) == ()


def test_a_figure_changes_no_rule(recording: Callable[[Record], Recipe]) -> None:
    one, other = recording({"linux-x64": 1}), recording({"linux-x64": 2})
    assert parse_rules(one.sections["diet"]) == parse_rules(other.sections["diet"])


@pytest.mark.parametrize(
    "saves", [5, {"linux": 5}, {"linux-x64": "5"}, {"linux-x64": 0}, {"linux-x64": True}]
)
def test_a_record_that_makes_no_sense_is_refused_by_name(
    recording: Callable[[object], Recipe], saves: object
) -> None:
    with pytest.raises(UsageError, match="diet rule tests has saves"):
        recorded(recording(saves))
