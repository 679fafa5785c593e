from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.assembly.path_rules import check_collisions, check_paths
from bundler.assembly.tree import entries_of, files_of
from bundler.errors import PolicyError

if TYPE_CHECKING:
    from pathlib import Path


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def test_every_file_is_listed_once_as_a_posix_path(tmp_path: Path) -> None:
    assert sorted(files_of(tree(tmp_path, "b/c", "a", "b/a/x"))) == ["a", "b/a/x", "b/c"]


@pytest.mark.parametrize("target", ["a", "folder", "nowhere"])
def test_a_link_is_refused_wherever_it_leads(tmp_path: Path, target: str) -> None:
    tree(tmp_path, "a", "folder/x")
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(PolicyError, match="link is a link"):
        list(files_of(tmp_path))


def test_entries_are_sorted_by_path_and_no_mode_is_read_from_the_disk(tmp_path: Path) -> None:
    tree(tmp_path, "z", "a/b", "a.txt")
    (tmp_path / "a.txt").chmod(0o700)
    entries = entries_of(tmp_path, {"z": 0o755, "a/b": 0o644, "a.txt": 0o644})
    assert [(entry.path, entry.mode) for entry in entries] == [
        ("a.txt", 0o644),
        ("a/b", 0o644),
        ("z", 0o755),
    ]
    assert [entry.size for entry in entries] == [5, 3, 1]


def test_good_paths_pass(tmp_path: Path) -> None:
    check_paths(tree(tmp_path, "python/bin/python3.11", "models/ü/1_Pooling/config.json"), 165)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("a/con", "con"),
        ("a/NUL.txt", "NUL.txt"),
        ("com1/b", "com1"),
        ("lpt9.log", "lpt9.log"),
        ("a:b", "a:b"),
        ("what?", "what?"),
        ("back\\slash", "back\\slash"),
        ("dot./x", "dot."),
        ("space ", "space "),
    ],
)
def test_names_that_windows_cannot_hold_are_refused(tmp_path: Path, path: str, part: str) -> None:
    with pytest.raises(PolicyError, match="cannot exist on Windows") as caught:
        check_paths(tree(tmp_path, path), 165)
    assert repr(part) in caught.value.why


@pytest.mark.parametrize("path", ["console", "a/nullable.py", "com10", "auxiliary/x", ".hidden"])
def test_names_that_only_look_reserved_are_allowed(tmp_path: Path, path: str) -> None:
    check_paths(tree(tmp_path, path), 165)


def test_a_path_over_the_budget_is_refused_with_its_length(tmp_path: Path) -> None:
    check_paths(tree(tmp_path, "a" * 20), 20)
    with pytest.raises(PolicyError, match="1 paths are too long") as caught:
        check_paths(tree(tmp_path, "b" * 21), 20)
    assert "21 characters" in caught.value.why


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "a")
    (tmp_path / "b" / "c").mkdir(parents=True)
    with pytest.raises(PolicyError, match="b/c is an empty folder"):
        check_paths(tmp_path, 165)


@pytest.mark.parametrize(
    "paths",
    [
        ("a/Readme", "a/README"),
        ("Package/x.py", "package/y.py"),
        ("a/straße", "a/STRASSE"),
        ("a/\u00fc", "a/u\u0308"),
        ("deep/Er/x", "deep/er/more/y"),
        ("a", "A/b"),
    ],
)
def test_names_that_are_one_name_elsewhere_are_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(PolicyError, match="differ by case alone"):
        check_collisions(paths)


def test_names_that_differ_otherwise_are_allowed() -> None:
    check_collisions(["a/b", "a/c", "b/a", "b/A1", "a/b"])
