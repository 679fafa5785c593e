from __future__ import annotations

import os
import sys
import tomllib
from dataclasses import replace

import pytest

from bundler.bootstrap import platforms
from bundler.bootstrap.platforms import PLATFORMS, Machine, supported, this_machine
from bundler.errors import UnsupportedError, UsageError
from bundler.locks.wheels import read_lock
from bundler.plan import require_profile
from bundler.profiles import profile_named, wheels_of
from bundler.project import Project
from bundler.recipe import read_recipe
from bundler.targets import TARGETS
from sidecar.process import cpu_features

LINUX = Machine("linux", "x86_64", "glibc", (2, 28), level=2)
MAC = Machine("darwin", "arm64", "macOS", (14, 0))
WINDOWS = Machine("win32", "x86_64", "Windows", (10, 0), level=3)


def refusal(machine: Machine, profile: str = "") -> UnsupportedError:
    with pytest.raises(UnsupportedError) as caught:
        supported(machine, profile)
    return caught.value


@pytest.mark.parametrize(
    ("machine", "target"), [(LINUX, "linux-x64"), (MAC, "mac-arm64"), (WINDOWS, "win-x64")]
)
def test_the_oldest_machine_with_wheels_is_its_target(machine: Machine, target: str) -> None:
    assert supported(machine).target == target


@pytest.mark.parametrize(
    "machine",
    [
        replace(LINUX, version=(2, 36)),
        replace(LINUX, version=()),
        replace(LINUX, level=None),
        replace(MAC, version=(26, 0)),
        replace(WINDOWS, bits=32),
    ],
    ids=["newer", "no version told", "no level told", "macOS 26", "32-bit Python on Windows"],
)
def test_a_newer_machine_or_one_that_tells_less_is_supported(machine: Machine) -> None:
    supported(machine)


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (replace(LINUX, library="musl", version=()), "Linux with musl"),
        (replace(LINUX, version=(2, 27)), "glibc 2.27 is too old"),
        (replace(LINUX, machine="armv7l"), "Linux on armv7l"),
        (replace(LINUX, bits=32), "Linux on 32-bit x86_64"),
        (replace(MAC, machine="x86_64", level=3), "macOS on x86_64"),
        (replace(MAC, version=(13, 7)), "macOS 13.7 is too old"),
        (replace(WINDOWS, machine="arm64", level=None), "Windows on arm64"),
        (replace(WINDOWS, version=(6, 3)), "Windows 6.3 is too old"),
        (Machine("freebsd14", "x86_64", "a C library", ()), "freebsd14 on x86_64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_machine_without_wheels_exits_10_and_is_shown_the_image(
    machine: Machine, words: str
) -> None:
    error = refusal(machine)
    assert error.exit_code == 10
    assert words in error.what
    assert "docker build --platform linux/amd64" in error.next_step


def test_the_refusal_names_only_platforms_that_have_wheels() -> None:
    why = refusal(replace(LINUX, machine="riscv64")).why
    for one in PLATFORMS.values():
        system = platforms.SYSTEMS[one.system]
        assert (f"{system} on {one.machine}" in why) == bool(one.profiles)


def test_a_processor_below_x86_64_v2_is_told_its_level() -> None:
    error = refusal(replace(LINUX, level=1))
    assert "x86-64-v1" in error.why
    assert "docker" not in error.next_step


def test_a_profile_that_a_platform_lacks_names_one_that_it_has() -> None:
    arm = replace(LINUX, machine="arm64", level=None)
    assert supported(arm, "lean") == supported(arm) == PLATFORMS["linux-arm64"]
    error = refusal(arm, "safe")
    assert error.exit_code == 10
    assert "safe" in error.what
    assert "--profile lean" in error.next_step


def test_this_machine_is_described() -> None:
    machine = this_machine()
    assert machine.system == sys.platform
    assert machine.bits == 64
    assert supported(machine).target in TARGETS


def test_features_that_are_declared_absent_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    if this_machine().machine != "x86_64":
        pytest.skip("levels are those of x86-64")
    monkeypatch.setenv(cpu_features.VARIABLE, "x86-64-v2")
    assert this_machine().level == 1
    monkeypatch.setenv(cpu_features.VARIABLE, "wings")
    with pytest.raises(UsageError, match=cpu_features.VARIABLE):
        this_machine()


def as_macos(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> Machine:
    """Return the machine where the system's programs give `answers`."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.mac_ver", lambda: ("10.16", ("", "", ""), ""))
    monkeypatch.setattr(platforms, "output", lambda *command, **_: answers.get(command[-1], ""))
    monkeypatch.setattr(platforms, "_x86_level", lambda: None)
    return this_machine()


def test_a_translated_python_does_not_hide_apple_silicon(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"hw.optional.arm64": "1", "-productVersion": "15.3.1"}
    assert as_macos(monkeypatch, answers) == Machine("darwin", "arm64", "macOS", (15, 3))


def test_an_intel_mac_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = as_macos(monkeypatch, {"-productVersion": "14"})
    assert found == Machine("darwin", "x86_64", "macOS", (14, 0))


@pytest.mark.parametrize("told", [ValueError("unrecognized configuration name"), None, ""])
def test_a_system_without_glibc_is_none_of_ours(
    monkeypatch: pytest.MonkeyPatch, told: object
) -> None:
    def confstr(_: str) -> object:
        if isinstance(told, Exception):
            raise told
        return told

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "confstr", confstr)
    assert this_machine().library != "glibc"
    refusal(this_machine())


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_table_has_exactly_the_profiles_that_are_locked(name: str) -> None:
    project = Project.here()
    recipe, lock = read_recipe(project.recipe), read_lock(project.wheel_lock)
    diet = recipe.sections["diet"]
    locked = []
    for profile in diet["profiles"]:
        try:
            require_profile(recipe, TARGETS[name], profile_named(profile, diet))
            wheels_of(lock, TARGETS[name], profile_named(profile, diet))
        except UnsupportedError:
            continue
        locked.append(profile)
    assert PLATFORMS[name].profiles == tuple(locked)
    assert recipe.profile_for(name) in locked


def test_the_recipes_floors_are_the_tables() -> None:
    recipe = tomllib.loads(Project.here().recipe.read_text(encoding="utf-8"))
    for name, target in TARGETS.items():
        floor = recipe["audit"][target.os]["floor"]
        assert tuple(int(part) for part in floor.split("."))[:2] == PLATFORMS[name].oldest


def test_every_target_is_a_platform_of_the_table() -> None:
    assert list(PLATFORMS) == list(TARGETS)
    assert all(one.target == name for name, one in PLATFORMS.items())
