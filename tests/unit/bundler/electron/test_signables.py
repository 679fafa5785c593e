from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.bundle import read_bundle
from bundler.electron.signing import Signable, signables, signing_table
from bundler.errors import VerificationError
from bundler.targets import TARGETS
from tests.support import smallbundle
from tests.support.tinybinaries import macho

if TYPE_CHECKING:
    from pathlib import Path

SITE = TARGETS["mac-arm64"].site_packages


def listed(root: Path) -> tuple[Signable, ...]:
    bundle = read_bundle(root)
    return signables(bundle)


def test_mac_signs_libraries_first_and_deepest_first(
    tmp_path: Path,
) -> None:
    found = listed(smallbundle.make(tmp_path, "mac-arm64"))
    assert [(one.kind, one.path) for one in found] == [
        ("library", f"{SITE}/pack/deep/er/native.so"),
        ("library", f"{SITE}/pack/native.so"),
        ("program", "python/bin/python3.11"),
    ]


def test_windows_signs_its_programs_and_libraries(tmp_path: Path) -> None:
    found = listed(smallbundle.make(tmp_path, "win-x64"))
    assert [one.path.rpartition("/")[2] for one in found] == [
        "native.pyd",
        "native.pyd",
        "python.exe",
    ]


def test_linux_signs_nothing(tmp_path: Path) -> None:
    assert listed(smallbundle.make(tmp_path, "linux-x64")) == ()


def test_a_library_that_writes_code_is_known(tmp_path: Path) -> None:
    files = {
        "python/plain.so": macho(),
        "python/writer.so": macho() + smallbundle.JIT,
        "python/text.so": smallbundle.JIT,
    }
    found = listed(smallbundle.make(tmp_path, "mac-arm64", files))
    assert [(one.path, one.writes_code) for one in found] == [
        ("python/plain.so", False),
        ("python/writer.so", True),
    ]


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    root = smallbundle.make(tmp_path, "mac-arm64")
    (root / SITE / "pack" / "native.so").write_bytes(macho(machine="x64"))
    with pytest.raises(VerificationError, match=r"native\.so is not the file"):
        listed(root)


def test_the_table_has_a_row_for_each_with_tabs_between(tmp_path: Path) -> None:
    found = listed(smallbundle.make(tmp_path, "mac-arm64"))
    rows = [row.split("\t") for row in signing_table(found).splitlines()]
    assert [row[3] for row in rows] == [one.path for one in found]
    assert all(len(row[1]) == len(row[2]) == 64 for row in rows)
