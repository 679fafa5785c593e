from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from bundler.errors import UnsupportedError, UsageError
from bundler.locks.wheels import parse_lock, select
from bundler.plan import require_profile
from bundler.profiles import DEFAULT, GROUPS, label, profile_named, wheels_of
from bundler.project import Project
from bundler.recipe import read_recipe
from bundler.targets import TARGETS

if TYPE_CHECKING:
    from bundler.profiles import Profile

DIET = """
profiles = ["none", "small"]
[contents.small]
groups = ["default"]
weights = "half"
[contents.small.without]
Left_Out = "metadata asks for it"
"""
DIGEST = "0" * 64


def small(**changes: object) -> dict[str, Any]:
    diet = tomllib.loads(DIET)
    diet["contents"]["small"] |= changes
    return diet


def package(name: str, group: str) -> str:
    return f"""
[[package]]
name = "{name}"
version = "1.0"
groups = ["{group}"]
files = [{{file = "{name.replace("-", "_")}-1.0-py3-none-any.whl", hash = "sha256:{DIGEST}"}}]
"""


def names(profile: Profile) -> set[str]:
    head = '[metadata]\nlock_version = "4.5.0"\ncontent_hash = "sha256:0"\n'
    lock = head + package("kept", "default") + package("left-out", "default")
    found = wheels_of(parse_lock(lock + package("big", "reference")), TARGETS["linux-x64"], profile)
    return {wheel.package for wheel in found}


def test_profile_without_contents_holds_everything() -> None:
    profile = profile_named("none", small())
    assert (profile.groups, profile.weights, profile.without) == (GROUPS, "whole", {})
    assert names(profile) == {"kept", "left-out", "big"}


def test_a_profile_holds_its_groups_less_what_it_leaves_out_by_any_spelling() -> None:
    profile = profile_named("small", small())
    assert profile.weights == "half"
    assert names(profile) == {"kept"}


def test_a_profile_like_another_may_add_packages_for_some_targets() -> None:
    diet = small()
    diet["profiles"].append("more")
    diet["contents"]["more"] = {"like": "small", "packages": ["Big"], "targets": ["linux-x64"]}
    profile = profile_named("more", diet)
    assert (profile.weights, profile.targets) == ("half", ("linux-x64",))
    assert names(profile) == {"kept", "big"}


def test_a_package_that_is_not_locked_cannot_be_added() -> None:
    with pytest.raises(UsageError, match="the profile small needs gone") as caught:
        names(profile_named("small", small(packages=["gone"])))
    assert caught.value.why == "pdm.lock has no gone for linux-x64"


def test_an_unknown_profile_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError) as caught:
        profile_named("tiny", small())
    assert caught.value.why == "the profiles are none, small"


@pytest.mark.parametrize(
    "changes",
    [{"weights": "quarter"}, {"groups": "default"}, {"packages": "big"}, {"like": "none-such"}],
)
def test_contents_that_mean_nothing_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="contents of the profile small"):
        profile_named("small", small(**changes))


def test_the_recipes_default_is_the_profile_that_no_name_says() -> None:
    assert read_recipe(Project.here().recipe).default_profile == DEFAULT
    assert (label("linux-x64", DEFAULT), label("linux-x64", "lean")) == (
        "linux-x64",
        "linux-x64-lean",
    )


def test_mps_profile_is_lean_with_torch_and_for_the_mac_alone() -> None:
    project = Project.here()
    recipe = read_recipe(project.recipe)
    lean, mps = (profile_named(name, recipe.sections["diet"]) for name in ("lean", "mps"))
    lock = parse_lock(project.wheel_lock.read_text(encoding="utf-8"))
    mac = TARGETS["mac-arm64"]
    require_profile(recipe, mac, mps)
    shipped = {
        profile.name: {wheel.package for wheel in wheels_of(lock, mac, profile)}
        for profile in (lean, mps)
    }
    assert shipped["mps"] - shipped["lean"] == {"torch"}
    assert mps.weights == "half"
    with pytest.raises(UnsupportedError, match="the profile mps is not for win-x64") as caught:
        require_profile(recipe, TARGETS["win-x64"], mps)
    assert caught.value.exit_code == 10
    assert caught.value.next_step.endswith("--target win-x64 --profile safe")


def test_batch_profile_is_lean_with_pyarrow_and_for_linux_alone() -> None:
    project = Project.here()
    recipe = read_recipe(project.recipe)
    lean, batch = (profile_named(name, recipe.sections["diet"]) for name in ("lean", "batch"))
    lock = parse_lock(project.wheel_lock.read_text(encoding="utf-8"))
    for name, target in TARGETS.items():
        if target.os != "linux":
            with pytest.raises(UnsupportedError, match=f"the profile batch is not for {name}"):
                require_profile(recipe, target, batch)
            continue
        require_profile(recipe, target, batch)
        small, large = (set(wheels_of(lock, target, profile)) for profile in (lean, batch))
        assert small < large
        assert {wheel.package for wheel in large - small} == {"pyarrow"}
    assert batch.weights == "half"


@pytest.mark.parametrize("target", ["linux-x64", "linux-arm64"])
def test_cluster_profile_is_batch_with_ray_and_what_it_imports(target: str) -> None:
    project = Project.here()
    recipe = read_recipe(project.recipe)
    batch, cluster = (profile_named(name, recipe.sections["diet"]) for name in ("batch", "cluster"))
    lock = parse_lock(project.wheel_lock.read_text(encoding="utf-8"))
    require_profile(recipe, TARGETS[target], cluster)
    small, large = (set(wheels_of(lock, TARGETS[target], one)) for one in (batch, cluster))
    assert small < large
    more = {wheel.package for wheel in large - small}
    # What Ray's head imports before it takes a job, and Ray Data before it reads a file.
    assert {"ray", "pandas", "grpcio", "aiohttp", "opencensus", "opentelemetry-sdk"} < more
    everything = {wheel.package for wheel in select(lock, TARGETS[target], groups=cluster.groups)}
    assert set(cluster.without) <= everything
    assert cluster.weights == "half"


def test_lean_profile_has_no_package_of_the_reference() -> None:
    project = Project.here()
    recipe = read_recipe(project.recipe)
    profile = profile_named("lean", recipe.sections["diet"])
    lock = parse_lock(project.wheel_lock.read_text(encoding="utf-8"))
    for target in TARGETS:
        found = {wheel.package for wheel in wheels_of(lock, TARGETS[target], profile)}
        assert {"onnxruntime", "tokenizers", "numpy", "fastapi"} <= found
        assert not found & {"torch", "transformers", "sentence-transformers", "scipy", "sympy"}
    assert all(profile.without.values())
