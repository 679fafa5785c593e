from __future__ import annotations

import sys

import pytest
from packaging.markers import Marker, default_environment
from packaging.tags import mac_platforms, sys_tags

from bundler.bootstrap import platforms
from bundler.bootstrap.platforms import PLATFORMS, Machine
from bundler.errors import UnsupportedError
from bundler.targets import PYTHON, TARGETS, host_target, target_named


def test_targets_are_spelled_as_electron_builder_spells_them() -> None:
    assert set(TARGETS) == {"linux-x64", "linux-arm64", "mac-arm64", "win-x64"}
    for name, target in TARGETS.items():
        assert target.name == name
        assert target.os == name.partition("-")[0]


def test_the_tags_of_macos_are_those_that_its_installer_takes() -> None:
    assert TARGETS["mac-arm64"].platform_tags == tuple(mac_platforms((14, 0), "arm64"))


def test_an_unknown_target_names_the_known_ones() -> None:
    assert target_named("win-x64") is TARGETS["win-x64"]
    with pytest.raises(UnsupportedError, match="no target 'mac-x64'") as caught:
        target_named("mac-x64")
    assert "mac-arm64" in caught.value.why
    assert caught.value.next_step == "--target mac-arm64"


@pytest.mark.parametrize("name", [one.target for one in PLATFORMS.values() if one.profiles])
def test_the_host_is_recognised(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    one = PLATFORMS[name]
    machine = Machine(one.system, one.machine, one.library, one.oldest)
    monkeypatch.setattr(platforms, "this_machine", lambda: machine)
    assert host_target().name == name


def test_a_host_that_is_no_target_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("linux", "x86_64", "musl", ())
    monkeypatch.setattr(platforms, "this_machine", lambda: machine)
    with pytest.raises(UnsupportedError, match="musl"):
        host_target()


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_runs_its_own_wheels_best_first(name: str) -> None:
    tags = [str(tag) for tag in TARGETS[name].tag_ranks()]
    assert len(tags) == len(set(tags))
    assert tags[0].startswith("cp311-cp311-")
    assert tags[-1].startswith("py3")
    assert tags.index("cp311-none-any") < tags.index("py3-none-any")
    assert any(tag.startswith("cp37-abi3-") for tag in tags)
    assert not any(tag.startswith("cp312-cp312") for tag in tags)


def test_linux_stops_at_the_oldest_c_library_a_bundle_promises() -> None:
    tags = [str(tag) for tag in TARGETS["linux-x64"].tag_ranks()]
    assert "cp311-cp311-manylinux_2_28_x86_64" in tags
    assert "cp311-cp311-manylinux2014_x86_64" in tags
    assert not any("manylinux_2_29" in tag or "musllinux" in tag for tag in tags)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_answers_every_marker_variable(name: str) -> None:
    markers = TARGETS[name].markers
    assert set(markers) == set(default_environment())
    assert Marker('python_version >= "3.11" and python_version < "3.12"').evaluate(dict(markers))
    assert Marker('implementation_name == "cpython"').evaluate(dict(markers))


@pytest.mark.skipif(sys.platform != "linux", reason="compares with this Linux machine")
def test_what_a_target_may_run_this_machine_can_run() -> None:
    if sys.version_info[:2] != PYTHON:
        pytest.skip("another Python has other tags")
    mine = {str(tag) for tag in sys_tags()}
    newest = [str(tag) for tag in host_target().tag_ranks() if "manylinux_2_17" in str(tag)]
    assert newest
    assert set(newest) <= mine


@pytest.mark.parametrize("name", TARGETS)
def test_places_in_a_bundle_follow_from_the_target(name: str) -> None:
    target = TARGETS[name]
    assert target.site_packages == f"{target.stdlib}/site-packages"
    assert target.executable.startswith("python/")
    assert (target.os == "win") == target.executable.endswith(".exe")
