"""The audit's rules as the recipe writes them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from bundler.assembly import linkage
from bundler.assembly.linkage import AuditRules, Family, Forbidden, Waiver
from bundler.errors import UsageError

RECIPE = """
[[duplicate]]
name = "OpenMP"
files = ["libgomp*"]
why = "cores are claimed twice"

[[forbidden]]
name = "Berkeley DB"
markers = ["Sleepycat"]
why = "it asks for all sources"

[linux]
floor = "2.28"
system = ["libc.so.6"]
required = ["libz.so.1"]

[[linux.waiver]]
path = "*/torch/*"
subject = "OpenMP"
reason = "one of them sleeps"

[[linux.waiver]]
target = "linux-arm64"
path = "*"
subject = "*"
reason = "elsewhere"

[win]
floor = "10.0"
system = ["kernel32.dll"]
versioned = ["msvcp140.dll"]
introduced = { "API-MS-new.dll" = "10.0" }

[[win.folder]]
for = "*/torch/*"
folder = "torch/lib"
"""


def table(text: str = RECIPE) -> dict[str, Any]:
    return tomllib.loads(text)


def test_a_target_gets_its_system_s_rules_and_those_of_all() -> None:
    rules = linkage.from_recipe(table(), system="linux", target="linux-x64")
    assert rules == AuditRules(
        system=("libc.so.6",),
        required=("libz.so.1",),
        floor="2.28",
        families=(Family(name="OpenMP", files=["libgomp*"], why="cores are claimed twice"),),
        forbidden=(
            Forbidden(name="Berkeley DB", markers=["Sleepycat"], why="it asks for all sources"),
        ),
        waivers=(Waiver(path="*/torch/*", subject="OpenMP", reason="one of them sleeps"),),
    )


def test_a_waiver_for_one_target_is_not_another_s() -> None:
    rules = linkage.from_recipe(table(), system="linux", target="linux-arm64")
    assert [waiver.reason for waiver in rules.waivers] == ["one of them sleeps", "elsewhere"]


def test_windows_has_added_folders_and_later_libraries() -> None:
    rules = linkage.from_recipe(table(), system="win", target="win-x64")
    assert rules.folders == (("*/torch/*", "torch/lib"),)
    assert rules.introduced == {"api-ms-new.dll": "10.0"}
    assert rules.versioned == ("msvcp140.dll",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[linux]\nfloor = "2.28"\nsystem = []\nsistem = []', "sistem"),
        ('[linux]\nfloor = "2.28"', "'system' is missing"),
        ("[linux]\nsystem = []", "'floor' is missing"),
        ("", "'system' is missing"),
        (
            'duplicate = [{ name = "OpenMP", files = [] }]\nlinux = { floor = "1", system = [] }',
            "'why'",
        ),
        (
            'linux = { floor = "1", system = [], waiver = [{ path = "*", subject = "*" }] }',
            "a waiver has no reason",
        ),
    ],
)
def test_a_table_that_says_less_or_more_than_it_should_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        linkage.from_recipe(table(text), system="linux", target="linux-x64")
    assert why in caught.value.why


def test_names_match_whatever_their_case_and_paths_only_as_they_are() -> None:
    assert linkage.matches("KERNEL32.dll", ["kernel32.DLL"])
    assert not linkage.matches("kernel32.dll", ["kernel.dll"])
    waiver = Waiver(path="a/*", subject="msvcp140.dll", reason="r")
    assert waiver.covers("a/b/c.pyd", "MSVCP140.dll")
    assert not waiver.covers("A/b/c.pyd", "MSVCP140.dll")


def test_what_the_runtime_brings_is_listed_apart_from_the_system() -> None:
    text = '[win]\nfloor = "10.0"\nsystem = []\nruntime = ["python311.dll"]'
    rules = linkage.from_recipe(table(text), system="win", target="win-x64")
    assert (rules.runtime, rules.system) == (("python311.dll",), ())
