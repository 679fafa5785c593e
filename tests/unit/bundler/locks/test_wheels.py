from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from bundler.errors import PolicyError, UnsupportedError, UsageError
from bundler.locks.wheels import (
    FORBIDDEN,
    WheelLock,
    content_hash,
    parse_lock,
    read_lock,
    require_current,
    select,
)
from bundler.profiles import GROUPS
from bundler.project import Project
from bundler.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LINUX, MAC, WINDOWS = (TARGETS[name] for name in ("linux-x64", "mac-arm64", "win-x64"))
EVERY_GROUP = (*GROUPS, "build", "dev", "lock")
HEAD = '[metadata]\ncontent_hash = "sha256:0"\n'


def entry(
    name: str,
    version: str = "1.0",
    files: Iterable[str] | None = None,
    *,
    marker: str = "",
    needs: Iterable[str] = (),
    groups: Iterable[str] = ("default",),
) -> str:
    files = [f"{name}-{version}-py3-none-any.whl"] if files is None else files
    lines = ["[[package]]", f"name = {json.dumps(name)}", f'version = "{version}"']
    lines += [f"groups = {json.dumps(list(groups))}", f"dependencies = {json.dumps(list(needs))}"]
    lines += [f"marker = {json.dumps(marker)}"] if marker else []
    listed = ", ".join(
        f'{{file = "{file}", hash = "sha256:{number:064x}"}}' for number, file in enumerate(files)
    )
    return "\n".join([*lines, f"files = [{listed}]", ""])


def chosen(text: str, target: str = "linux-x64", group: str = "default") -> dict[str, str]:
    wheels = select(parse_lock(HEAD + text), TARGETS[target], groups=(group,))
    return {wheel.package: wheel.artifact.name for wheel in wheels}


def test_one_wheel_is_chosen_for_each_package_by_name() -> None:
    assert chosen(entry("b") + entry("a")) == {
        "a": "a-1.0-py3-none-any.whl",
        "b": "b-1.0-py3-none-any.whl",
    }


def test_each_target_gets_the_wheel_with_its_best_tag() -> None:
    files = [
        "a-1.0-py3-none-any.whl",
        "a-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "a-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "a-1.0-cp311-cp311-manylinux_2_17_aarch64.whl",
        "a-1.0-cp311-cp311-macosx_11_0_arm64.whl",
        "a-1.0-cp39-abi3-win_amd64.whl",
        "a-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        "a-1.0.tar.gz",
    ]
    text = entry("a", files=files)
    assert chosen(text, "linux-x64") == {"a": files[2]}
    assert chosen(text, "linux-arm64") == {"a": files[3]}
    assert chosen(text, "mac-arm64") == {"a": files[4]}
    assert chosen(text, "win-x64") == {"a": files[5]}


def test_a_wheel_for_a_newer_libc_than_the_target_has_is_not_chosen() -> None:
    text = entry("a", files=["a-1.0-cp311-cp311-manylinux_2_39_x86_64.whl"])
    with pytest.raises(UnsupportedError, match="not locked for linux-x64: a"):
        chosen(text)


def test_markers_are_those_of_the_target_not_of_this_machine() -> None:
    text = entry("a", marker='sys_platform == "win32"') + entry("b")
    assert set(chosen(text, "win-x64")) == {"a", "b"}
    assert set(chosen(text, "mac-arm64")) == {"b"}


def test_groups_are_kept_apart() -> None:
    text = entry("a") + entry("b", groups=["dev"]) + entry("c", groups=["default", "dev"])
    assert set(chosen(text)) == {"a", "c"}
    assert set(chosen(text, group="dev")) == {"b", "c"}


def test_two_versions_split_by_platform_are_each_chosen_where_they_fit() -> None:
    text = entry("t", "2.0+cpu", ["t-2.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"])
    text += entry("t", "2.0", ["t-2.0-cp311-none-macosx_11_0_arm64.whl"])
    assert chosen(text, "linux-x64")["t"].startswith("t-2.0+cpu")
    assert chosen(text, "mac-arm64")["t"].startswith("t-2.0-")


@pytest.mark.parametrize(
    "text",
    [
        entry("a", "1.0") + entry("a", "2.0"),
        entry("a", files=["a-1.0-1-py3-none-any.whl", "a-1.0-2-py3-none-any.whl"]),
    ],
    ids=["versions", "builds"],
)
def test_two_wheels_that_both_fit_are_an_error_that_names_them(text: str) -> None:
    with pytest.raises(UsageError, match="more than one wheel of a for linux-x64") as caught:
        chosen(text)
    assert caught.value.why.count(".whl") == 2


def test_a_package_without_a_wheel_is_an_error_that_says_so() -> None:
    with pytest.raises(UsageError, match="source distribution only"):
        chosen(entry("a", files=["a-1.0.tar.gz"]))
    with pytest.raises(UnsupportedError, match="not locked for linux-x64: a") as caught:
        chosen(entry("a", files=["a-1.0-cp311-cp311-win_amd64.whl", "a-1.0.tar.gz"]))
    assert caught.value.exit_code == 10


def test_a_dependency_that_was_not_locked_for_the_target_is_named() -> None:
    text = entry("a", needs=['b>=1; sys_platform == "linux"'])
    assert set(chosen(text, "win-x64")) == {"a"}
    with pytest.raises(UnsupportedError, match="b is not locked for linux-x64") as caught:
        chosen(text, "linux-x64")
    assert "a 1.0 needs it" in caught.value.why


def test_a_dependency_of_an_extra_nobody_asked_for_is_not_missed() -> None:
    assert set(chosen(entry("a", needs=['b; extra == "b"']))) == {"a"}


@pytest.mark.parametrize("name", ["nvidia-cublas-cu12", "cuda-bindings", "triton"])
def test_a_cuda_build_in_the_lock_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match=f"holds {name}"):
        parse_lock(HEAD + entry(name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not TOML"),
        ("", "lacks or misspells"),
        ("metadata = 1\npackage = []", "lacks or misspells"),
        (HEAD, "lacks or misspells"),
        (HEAD + "[[package]]\nname = 'a'\n", "lacks or misspells"),
        (HEAD + "package = [1]", "lacks or misspells"),
        (HEAD + entry("a").replace("sha256:", "md5:"), "no sha256 for a"),
        (HEAD + entry("a").replace("sha256:0000", "sha256:"), "no sha256 for a"),
        (HEAD + entry("a").replace("hash =", "size ="), "no sha256 for a"),
    ],
)
def test_a_lock_that_cannot_be_used_is_a_usage_error(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_lock(text)


@pytest.mark.parametrize(
    "text",
    [
        entry("a", marker="not a marker"),
        entry("a", needs=["=="]),
        entry("a", files=["a.whl"]),
    ],
)
def test_what_cannot_be_read_in_an_entry_names_the_package(text: str) -> None:
    with pytest.raises(UsageError, match=r"for a$"):
        chosen(text)


@pytest.mark.parametrize("marker", ["os_name ~= 'x'", "'x' in extras"])
def test_a_marker_that_means_nothing_is_a_usage_error(marker: str) -> None:
    with pytest.raises(UsageError, match="a marker that means nothing for") as caught:
        chosen(entry("a", marker=marker))
    assert marker.partition(" ")[0].strip("'") in caught.value.why


def test_a_lock_that_is_missing_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pdm\.lock cannot be read") as caught:
        read_lock(tmp_path / "pdm.lock")
    assert caught.value.next_step == "python3 build lock --wheels"


@pytest.mark.parametrize("target", TARGETS)
def test_the_committed_lock_serves_each_target(target: str) -> None:
    lock = read_lock(Project.here().wheel_lock)
    names = [wheel.package for wheel in select(lock, TARGETS[target], groups=EVERY_GROUP)]
    assert len(names) == len(set(names))
    assert {"fastapi", "uvicorn", "numpy", "pypdfium2", "onnxruntime", "pytest"} <= set(names)
    assert ("torch" in names) == (target != "linux-arm64")
    assert not [name for name in names if name.startswith(FORBIDDEN)]


def test_the_committed_lock_holds_no_torch_for_linux_on_arm() -> None:
    lock = read_lock(Project.here().wheel_lock)
    files = [file.name for package in lock.packages for file in package.files]
    arm = [name for name in files if "linux" in name and "aarch64" in name]
    assert arm
    assert not [name for name in arm if name.startswith(("torch", "nvidia", "cuda", "triton"))]


def test_the_committed_lock_is_of_the_committed_pyproject() -> None:
    root = Project.here().root
    require_current(read_lock(root / "pdm.lock"), root / "pyproject.toml")


def test_a_lock_older_than_pyproject_is_refused(tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\ndependencies = ["numpy"]\n', encoding="utf-8")
    made = content_hash(tomllib.loads(pyproject.read_text(encoding="utf-8")))
    lock = WheelLock(packages=(), content_hash=f"sha256:{made}")
    require_current(lock, pyproject)
    pyproject.write_text('[project]\ndependencies = ["numpy", "scipy"]\n', encoding="utf-8")
    with pytest.raises(UsageError, match="older than pyproject") as caught:
        require_current(lock, pyproject)
    assert caught.value.exit_code == 2
    assert "lock --wheels" in caught.value.next_step


def test_what_decides_no_version_does_not_make_a_lock_old() -> None:
    plain = {"project": {"dependencies": ["numpy"]}}
    described = {"project": {"dependencies": ["numpy"], "description": "new words"}}
    assert content_hash(plain) == content_hash({**described, "tool": {"ruff": {}}})
