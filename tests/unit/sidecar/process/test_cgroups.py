from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.process import cgroups

if TYPE_CHECKING:
    from pathlib import Path


def folders(root: Path, text: str, controller: str = "memory") -> list[str]:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text, encoding="ascii")
    mount = root / "sys/fs/cgroup"
    return [folder.relative_to(mount).as_posix() for folder in cgroups.folders(root, controller)]


def test_groups_of_version_2_go_from_the_innermost_outwards(tmp_path: Path) -> None:
    found = folders(tmp_path, "0::/user.slice/app.scope\n")
    assert found[:3] == ["user.slice/app.scope", "user.slice", "."]
    # Beside version 1 it is mounted elsewhere.
    assert found[3:] == ["unified/user.slice/app.scope", "unified/user.slice", "unified"]


@pytest.mark.parametrize(
    ("controller", "expected"),
    [
        ("memory", ["memory/docker/abc", "memory/docker", "memory"]),
        ("cpu", ["cpu,cpuacct/docker", "cpu,cpuacct", "cpu/docker", "cpu"]),
        ("pids", []),
    ],
)
def test_a_controller_of_version_1_has_groups_of_its_own(
    tmp_path: Path, controller: str, expected: list[str]
) -> None:
    text = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker\n1:name=systemd:/\n"
    assert folders(tmp_path, text, controller) == expected


def test_a_system_without_groups_has_none(tmp_path: Path) -> None:
    assert list(cgroups.folders(tmp_path, "memory")) == []
    assert folders(tmp_path, "broken\n") == [".", "unified"]


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert cgroups.text_of(tmp_path) == ""
    (tmp_path / "file").write_bytes(b" \xff 7\n")
    assert cgroups.text_of(tmp_path / "file") == "\ufffd 7"
