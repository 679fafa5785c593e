from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler.digests import Digest
from bundler.errors import UnsupportedError, UsageError
from bundler.plan import COMPONENTS, HostRuntime, plan
from bundler.recipe import PARTS, TargetRules
from bundler.targets import TARGETS
from tests.support.miniature import EPOCH, Miniature

if TYPE_CHECKING:
    from bundler.plan import BundlePlan

HOST = HostRuntime(
    version="3.11.2", executable=Path("/usr/bin/python3.11"), digest=Digest.of_bytes(b"host")
)


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return Miniature.make(tmp_path_factory.mktemp("miniature") / "project")


def differing(one: BundlePlan, two: BundlePlan) -> set[str]:
    return {name for name in COMPONENTS if one.inputs(name) != two.inputs(name)}


def test_a_plan_names_every_wheel_model_and_the_runtime(miniature: Miniature) -> None:
    made = miniature.plan()
    assert [(wheel.package, wheel.component) for wheel in made.wheels] == [
        ("feather", "packages"),
        ("heavy-weight", "heavy"),
    ]
    assert [model.name for model in made.models] == ["tiny", "wheeled"]
    assert made.epoch == EPOCH
    assert made.components == COMPONENTS
    assert made.unreleasable == ()


def test_the_document_is_plain_json_and_identifies_the_plan(miniature: Miniature) -> None:
    document = miniature.plan().document()
    assert json.loads(json.dumps(document))["runtime"]["source"] == "standalone"
    assert miniature.plan().id == miniature.plan().id
    assert str(miniature.root) not in json.dumps(document)


def test_where_the_host_keeps_its_python_says_nothing(miniature: Miniature) -> None:
    one = miniature.plan(host=HOST)
    two = miniature.plan(host=replace(HOST, executable=Path("/elsewhere/python")))
    assert one.id == two.id
    assert one.unreleasable == ("the runtime is a copy of the building machine's CPython",)


def test_where_the_runtime_is_fetched_from_says_nothing(miniature: Miniature) -> None:
    made = miniature.plan()
    assert made.runtime is not None
    assert not isinstance(made.runtime, HostRuntime)
    mirrored = replace(made, runtime=replace(made.runtime, url="https://mirror.invalid/x"))
    assert mirrored.id == made.id


def test_each_input_changes_the_components_it_decides_and_no_others(miniature: Miniature) -> None:
    base = miniature.plan()
    assert differing(base, miniature.plan(host=HOST)) == {"python"}
    assert differing(base, miniature.plan(profile="none")) == {"packages"}
    assert differing(base, miniature.plan(models=("tiny",))) == {"models"}
    assert differing(base, replace(base, service="0" * 64)) == {"service"}
    for change in (
        {"compiler": "3.11.10"},
        {"builder": "0" * 64},
        {"epoch": 1},
        {"path_budget": 9},
    ):
        assert differing(base, replace(base, **change)) == set(COMPONENTS)
    wheels = (replace(base.wheels[0], sha256="0" * 64), *base.wheels[1:])
    assert differing(base, replace(base, wheels=wheels)) == {"packages"}


def test_every_change_changes_the_identity(miniature: Miniature) -> None:
    plans = [
        miniature.plan(),
        miniature.plan(host=HOST),
        miniature.plan(profile="none"),
        miniature.plan(models=("tiny",)),
        miniature.plan(models=("wheeled", "tiny")),
        miniature.plan(compiler="3.11.1"),
        miniature.plan(epoch=0),
        miniature.plan(parts=("service",)),
    ]
    assert len({made.id for made in plans}) == len(plans)


def test_parts_are_kept_in_their_order_and_what_is_left_out_is_told(miniature: Miniature) -> None:
    made = miniature.plan(parts=("service", "runtime"))
    assert made.parts == ("runtime", "service")
    assert made.components == ("python", "service")
    assert made.unreleasable == ("parts were left out: wheels, models",)
    assert made.default_model is None
    assert miniature.plan(parts=PARTS).id == miniature.plan(parts=PARTS[::-1]).id


def test_the_first_model_asked_for_is_the_default_and_each_comes_once(miniature: Miniature) -> None:
    made = miniature.plan(models=("wheeled", "example/tiny", "tiny", "wheeled"))
    assert [model.name for model in made.models] == ["wheeled", "tiny"]
    assert made.default_model == "wheeled"
    assert miniature.plan(models=()).default_model == "tiny"


def test_rules_for_packages_that_are_not_there_are_left_out(miniature: Miniature) -> None:
    assert [rule.name for rule in miniature.plan().rules] == ["tests"]
    assert miniature.plan(parts=("service",)).rules == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ("wheels", "sauce")}, "no part 'sauce'"),
        ({"profile": "crash"}, "no profile 'crash'"),
        ({"models": ("huge",)}, "no model 'huge'"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(
    miniature: Miniature, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        miniature.plan(**options)


def test_a_target_whose_runtime_is_not_locked_is_unsupported(miniature: Miniature) -> None:
    with pytest.raises(UnsupportedError, match="CPython is not locked for mac-arm64"):
        plan(
            miniature.recipe,
            miniature.locks,
            TARGETS["mac-arm64"],
            miniature.sources,
            compiler="3.11.9",
            parts=("runtime",),
        )


def test_a_group_that_a_target_lacks_refuses_every_profile_with_it(miniature: Miniature) -> None:
    rules = TargetRules(default_profile="small", without={"reference": "nothing serves it"})
    diet = miniature.recipe.sections["diet"]
    small = {
        "profiles": [*diet["profiles"], "small"],
        "contents": {"small": {"groups": ["default"]}},
    }
    recipe = replace(
        miniature.recipe,
        targets={"linux-x64": rules},
        sections={**miniature.recipe.sections, "diet": {**diet, **small}},
    )

    def planned(profile: str | None) -> BundlePlan:
        target = TARGETS["linux-x64"]
        facts = (recipe, miniature.locks, target, miniature.sources)
        return plan(*facts, compiler="3.11.9", profile=profile)

    assert planned(None).profile == "small"
    with pytest.raises(UnsupportedError, match=r"the group reference .* for linux-x64") as caught:
        planned("safe")
    assert caught.value.why == "nothing serves it; the profile safe needs it"
    assert caught.value.next_step.endswith("--target linux-x64 --profile small")


def test_a_stand_in_of_debians_packages_is_marked_as_one(miniature: Miniature) -> None:
    made = miniature.plan(host=replace(HOST, root=Path("/somewhere")))
    assert made.document()["runtime"]["source"] == "debian"
    assert made.unreleasable == ("the runtime is made of Debian's packages",)
    assert "/somewhere" not in json.dumps(made.document())


def test_a_component_that_does_not_exist_has_no_inputs(miniature: Miniature) -> None:
    with pytest.raises(ValueError, match="sauce"):
        miniature.plan().inputs("sauce")


def test_the_unslimmed_profile_is_for_measuring_and_never_for_release(tmp_path: Path) -> None:
    miniature = Miniature.make(tmp_path / "checkout")
    assert miniature.plan(profile="safe").unreleasable == ()
    (reason,) = miniature.plan(profile="none").unreleasable
    assert "for comparisons only" in reason
