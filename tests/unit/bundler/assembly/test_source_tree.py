from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.assembly.tree import digest_of, is_stray, source_files, text_of
from bundler.errors import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.digests import Digest

STRAY = (
    *(".DS_Store", "._cli.py", ".hidden.py", ".venv/site.py", ".git/config", ".#cli.py"),
    *("Thumbs.db", "ehthumbs.db", "Desktop.ini", "Icon\r"),
    *("cli.py~", "#cli.py#", ".cli.py.swp", "cli.py.swp", "cli.py.bak", "cli.py.orig"),
    *("cli.py.rej", "__pycache__/a.py", "deep/__pycache__/a.cpython-311.pyc"),
)


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def digest(root: Path) -> Digest:
    return digest_of(source_files(root))


def test_a_tree_is_its_paths_and_contents(tmp_path: Path) -> None:
    one = digest(tree(tmp_path / "one", {"a/b.py": b"x", "c.py": b"yy"}))
    assert one == digest(tree(tmp_path / "two", {"c.py": b"yy", "a/b.py": b"x"}))
    assert one.size == 3
    for number, files in enumerate(
        ({"a/b.py": b"x"}, {"a/b.py": b"yy", "c.py": b"x"}, {"a/c.py": b"x", "c.py": b"yy"})
    ):
        assert one != digest(tree(tmp_path / str(number), files))


def test_sources_are_sorted_by_their_posix_path(tmp_path: Path) -> None:
    names = ["a.py", "a/index.html", "a/page.css", "a/page.js", "a/z.py", "b.py", "b/a.py"]
    tree(tmp_path, dict.fromkeys(reversed(names), b""))
    assert list(source_files(tmp_path)) == names


def test_the_line_endings_of_windows_do_not_count(tmp_path: Path) -> None:
    plain = tree(tmp_path / "lf", {"a.py": b"one\n\ntwo = '\\r'\n"})
    other = tree(tmp_path / "crlf", {"a.py": b"one\r\n\r\ntwo = '\\r'\r\n"})
    assert digest(plain) == digest(other)
    assert text_of(other / "a.py") == text_of(plain / "a.py") == (plain / "a.py").read_bytes()


@pytest.mark.parametrize("path", STRAY)
def test_what_editors_and_desktops_leave_behind_is_passed_over(tmp_path: Path, path: str) -> None:
    tree(tmp_path, {"cli.py": b"x"})
    before = digest(tmp_path)
    tree(tmp_path, {path: b"left"})
    assert digest(tmp_path) == before


def test_the_marker_for_type_checkers_does_not_ship(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    (tmp_path / "py.typed").touch()
    assert list(source_files(tmp_path)) == ["a.py"]


def test_a_lock_of_emacs_leads_nowhere_and_is_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, {"cli.py": b"x"})
    (tmp_path / ".#cli.py").symlink_to("me@machine.1234")
    assert list(source_files(tmp_path)) == ["cli.py"]


@pytest.mark.parametrize("name", ["cli.py", "__init__.py", "thumbs.py", "swp", "original.py"])
def test_a_source_is_no_stray_file(name: str) -> None:
    assert not is_stray(name)


@pytest.mark.parametrize("path", ["notes.md", "deep/data.json", "cli.pyc", "desktop.ini.txt"])
def test_any_other_file_exits_7_and_is_named(tmp_path: Path, path: str) -> None:
    root = tree(tmp_path / "service", {"cli.py": b"x", path: b"?"})
    with pytest.raises(PolicyError, match=f"service/{path} is not source") as caught:
        source_files(root)
    assert caught.value.exit_code == 7
