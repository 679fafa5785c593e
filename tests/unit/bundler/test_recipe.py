from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from bundler.errors import UsageError
from bundler.project import Project
from bundler.recipe import TargetRules, epoch_for, parse_recipe, read_recipe
from bundler.targets import TARGETS
from tests.support.miniature import EPOCH, RECIPE, REVISION

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.targets import Target


def test_the_committed_recipe_can_be_read() -> None:
    recipe = read_recipe(Project.here().recipe)
    assert recipe.default_profile in recipe.sections["diet"]["profiles"]
    assert recipe.component("torch") == "heavy"


def test_package_names_are_compared_in_their_canonical_spelling() -> None:
    recipe = parse_recipe(RECIPE)
    assert recipe.component("heavy.weight") == "heavy"
    assert recipe.component("HEAVY-WEIGHT") == "heavy"
    assert recipe.component("feather") == "packages"


@pytest.mark.parametrize(
    ("path", "is_allowed"),
    [
        ("config.json", True),
        ("1_Pooling/config.json", True),
        ("2_Dense/config.json", True),
        ("1_Pooling/deeper/config.json", False),
        ("x/config.json", False),
        ("pytorch_model.bin", False),
        ("modeling.py", False),
        ("config.json/../../x", False),
        ("Config.json", False),
        ("../config.json", False),
    ],
)
def test_a_snapshot_holds_the_named_files_and_no_others(path: str, is_allowed: bool) -> None:
    assert parse_recipe(RECIPE).allows(path) is is_allowed


def test_a_target_may_have_a_default_profile_of_its_own() -> None:
    text = '[targets.linux-arm64]\ndefault_profile = "none"\nwithout = { big = "it is too big" }\n'
    recipe = parse_recipe(RECIPE + text)
    assert recipe.profile_for("linux-arm64") == "none"
    assert recipe.profile_for("linux-x64") == recipe.default_profile == "safe"
    assert recipe.targets["linux-arm64"].without == {"big": "it is too big"}


def test_a_target_lacks_the_groups_that_pyproject_leaves_out_for_it() -> None:
    project = Project.here()
    text = (project.root / "pyproject.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)["project"]
    groups = {"default": table["dependencies"], **table["optional-dependencies"]}
    recipe = read_recipe(project.recipe)
    for target in TARGETS.values():
        lacking = {
            name
            for name, needs in groups.items()
            if not any(_holds(Requirement(need), target) for need in needs)
        }
        assert lacking == set(recipe.targets.get(target.name, TargetRules()).without), target.name


def _holds(requirement: Requirement, target: Target) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(dict(target.markers))


def test_a_model_is_found_by_its_name_and_by_its_repository() -> None:
    recipe = parse_recipe(RECIPE)
    assert recipe.model("tiny") is recipe.model("example/tiny")
    with pytest.raises(UsageError, match="no model 'huge'") as caught:
        recipe.model("huge")
    assert "tiny, wheeled" in caught.value.why


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[bundle]", "[bundle", "is not TOML"),
        ("[sources]", "[places]", "lacks or misspells"),
        ("epoch =", "epok =", "lacks or misspells"),
        (f'revision = "{REVISION}"', 'branch = "main"', "lacks or misspells"),
        ("path_budget = 165", 'path_budget = "long"', "lacks or misspells"),
        ("[models.catalogue.tiny]", "[models.catalogue]\nx = 1\n[models.catalogue.tiny]", "lacks"),
        (REVISION, "main", "moves"),
        (REVISION, REVISION[:39], "moves"),
        (REVISION, REVISION.upper(), "moves"),
        ("wheeled==1.0", "wheeled>=1.0", "not pinned"),
        ('"wheeled==1.0"', '"wheeled==1.0"\nparts = ["other==1.0"]', "no archive"),
        ('"wheeled==1.0"', '"wheeled==1.0"\narchive = "a.zip"\nparts = ["other"]', "not pinned"),
        ('"wheeled==1.0"', '"wheeled==1.0"\nleast_dim = 0', "least_dim of wheeled"),
        ('"wheeled==1.0"', '"wheeled==1.0"\nleast_dim = "4"', "least_dim of wheeled"),
        ("wheeled==1.0", "wheeled", "not pinned"),
        ("wheeled==1.0", "wheeled==1.0,!=2", "not pinned"),
        ("wheeled==1.0", "== wheeled", "not pinned"),
        ("wheeled==1.0", "wheeled==1.*", "not pinned"),
        ('default_model = "tiny"', 'default_model = "huge"', "no model 'huge'"),
        ('release_model = "tiny"', 'release_model = "huge"', "no model 'huge'"),
        ('prefix = "', 'aliases = ["TINY"]\nprefix = "', "tiny is a name of tiny and of wheeled"),
        ('prefix = "', 'aliases = ["example/tiny"]\nprefix = "', "is a name of tiny and of"),
        ("example/wheeled", "other/tiny", "tiny is a name of tiny and of wheeled"),
        ("[sources]", "[targets.amiga]\n[sources]", "amiga, which is no target"),
        ("[sources]", "[targets.win-x64]\nprofile = 'x'\n[sources]", "lacks or misspells"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_with_its_reason(
    old: str, new: str, message: str
) -> None:
    assert old in RECIPE
    with pytest.raises(UsageError, match=message):
        parse_recipe(RECIPE.replace(old, new))


def test_a_recipe_that_is_missing_or_no_text_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "recipe.toml")
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "recipe.toml")


def test_the_date_is_the_recipes_unless_the_environment_says_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = parse_recipe(RECIPE)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert epoch_for(recipe) == EPOCH
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert epoch_for(recipe) == 86400
    for text in ("yesterday", "4354819200", "9" * 5000):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
        with pytest.raises(UsageError, match="number of seconds"):
            epoch_for(recipe)
