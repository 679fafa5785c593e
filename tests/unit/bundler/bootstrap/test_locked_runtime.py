from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from bundler.bootstrap.standalone import locked_runtime, strings
from bundler.errors import UnsupportedError, UsageError
from bundler.locks.runtime import read_lock
from bundler.project import Project

if TYPE_CHECKING:
    from pathlib import Path

LOCK = """
[linux-x64]
version = "3.11.17"
tag = "20261021"
triple = "x"
flavour = "small"
sha256 = "SHA"
"""


def test_the_committed_lock_is_read_as_tomllib_reads_it() -> None:
    lock = Project.here().runtime_lock
    assert strings(lock) == tomllib.loads(lock.read_text(encoding="utf-8"))
    for target, spec in read_lock(lock).items():
        found = locked_runtime(lock, target)
        assert found.artifact == spec.artifact
        assert (found.version, found.tag) == (spec.version, spec.tag)
        release = tomllib.loads(Project.here().recipe.read_text(encoding="utf-8"))["sources"]
        assert found.url(release["runtime"]) == spec.url


def test_of_the_recipe_every_string_on_a_line_is_read() -> None:
    recipe = Project.here().recipe
    found = strings(recipe)
    raw = tomllib.loads(recipe.read_text(encoding="utf-8"))
    assert found["sources"] == raw["sources"]
    assert found["bundle"]["default_profile"] == raw["bundle"]["default_profile"]


def test_comments_and_other_values_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('x = "0"\n[a.b]\ny = "1"  # why\nz = 2\nlist = [\n  "c",\n]\n')
    assert strings(path) == {"a.b": {"y": "1"}}


@pytest.mark.parametrize("text", [LOCK, LOCK.replace('version = "3.11.17"\n', "")])
def test_an_entry_that_lacks_something_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "runtime.lock.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"runtime\.lock\.toml: \[linux-x64\]") as caught:
        locked_runtime(path, "linux-x64")
    assert ("version" in caught.value.why) == ("version" not in text)


def test_a_target_without_a_runtime_exits_10(tmp_path: Path) -> None:
    path = tmp_path / "runtime.lock.toml"
    path.write_text(LOCK)
    with pytest.raises(UnsupportedError, match="no runtime is locked for win-x64"):
        locked_runtime(path, "win-x64")


def test_a_lock_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        strings(tmp_path / "none.toml")
