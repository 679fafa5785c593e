"""What a finished bundle must not hold, looked for in every file of a real one."""

from __future__ import annotations

import marshal
import os
import re
import sys
import types
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from bundler.assembly.bytecode import TAG
from bundler.atomic import MARK, OLD
from bundler.inspection.inventory import take_stock
from bundler.project import Project
from bundler.recipe import read_recipe
from tests.support.treesearch import demands, holding

HEADER_BYTES = 16
UNCHECKED_HASH = 0b01


@pytest.fixture(scope="module")
def paths(bundle: Path) -> list[Path]:
    return sorted(bundle.rglob("*"))


def test_no_file_names_the_place_where_it_was_made(bundle: Path, paths: list[Path]) -> None:
    project = Project.here()
    needles = [str(project.root).encode(), str(bundle).encode(), MARK.encode(), OLD.encode()]
    # The home of root is a word that other people's builds leave in their binaries, too.
    if len(Path.home().parts) > 2:
        needles.append(str(Path.home()).encode())
    assert holding(paths, needles) == []


def test_no_text_names_the_home_of_whoever_made_it(bundle: Path) -> None:
    home = re.compile(rb"(?<![\w./-])" + re.escape(str(Path.home()).encode()) + rb"/[\w.]")
    papers = [bundle / "manifest.json", *bundle.glob("*.json"), bundle / "NOTICES.txt"]
    sysconfig = list(bundle.rglob("_sysconfigdata*"))
    records = list(bundle.rglob("*.dist-info/*"))
    assert sysconfig
    texts = [path for path in (*papers, *sysconfig, *records) if path.is_file()]
    assert [path for path in texts if home.search(path.read_bytes())] == []


def test_it_demands_no_sources_of_what_it_is_shipped_with(bundle: Path) -> None:
    assert demands(bundle) == []


def test_there_are_files_and_folders_and_nothing_else(paths: list[Path]) -> None:
    assert [p for p in paths if p.is_symlink() or not (p.is_file() or p.is_dir())] == []


def test_no_file_shares_its_bytes_with_another_one(bundle: Path, paths: list[Path]) -> None:
    # Files may be linked to a bundle elsewhere, not to each other: an installer would split them.
    files = [path for path in paths if path.is_file()]
    nodes = Counter(os.lstat(path).st_ino for path in files)
    assert [p.relative_to(bundle) for p in files if nodes[p.lstat().st_ino] > 1] == []


def test_no_folder_is_empty(paths: list[Path]) -> None:
    assert [path for path in paths if path.is_dir() and not any(path.iterdir())] == []


def test_no_two_names_differ_by_case_or_spelling_alone(bundle: Path, paths: list[Path]) -> None:
    names = Counter(
        unicodedata.normalize("NFC", path.relative_to(bundle).as_posix()).casefold()
        for path in paths
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_every_path_is_within_the_budget(bundle: Path, paths: list[Path]) -> None:
    budget = read_recipe(Project.here().recipe).path_budget
    relative = [path.relative_to(bundle).as_posix() for path in paths]
    assert [path for path in relative if len(path) > budget] == []


def test_every_file_is_listed_and_has_an_owner(bundle: Path, paths: list[Path]) -> None:
    inventory = take_stock(bundle)
    files = {path.relative_to(bundle).as_posix() for path in paths if path.is_file()}
    assert files == inventory.files.keys()
    orphans = [o for o in inventory.files.values() if not o.package and o.component != "papers"]
    assert [owned.entry.path for owned in orphans] == []


def test_bytecode_is_unchecked_and_names_its_source_by_a_relative_path(bundle: Path) -> None:
    assert f"cpython-{sys.version_info[0]}{sys.version_info[1]}" == TAG
    compiled = sorted(bundle.rglob("*.pyc"))
    assert compiled
    wrong = []
    for path in compiled:
        data = path.read_bytes()
        flags = int.from_bytes(data[4:8], "little")
        code = marshal.loads(data[HEADER_BYTES:])  # noqa: S302 - the bundle's own
        names = {found.co_filename for found in codes(code)}
        name = PurePosixPath(next(iter(names)))
        is_relative = len(names) == 1 and not name.is_absolute() and ".." not in name.parts
        if flags != UNCHECKED_HASH or not is_relative or ":" in str(name):
            wrong.append((path, flags, names))
    assert wrong == []


def codes(code: types.CodeType) -> list[types.CodeType]:
    """Return `code` and every code inside it."""
    inner = [found for found in code.co_consts if isinstance(found, types.CodeType)]
    return [code, *(deeper for found in inner for deeper in codes(found))]
