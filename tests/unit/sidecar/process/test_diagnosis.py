"""What dynamic linkers say, and the variable that it is due to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.errors import ModelError
from sidecar.process import diagnosis
from tests.support.tinybinaries import elf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    path = tmp_path / "My App" / "engine.so"
    path.parent.mkdir()
    path.write_bytes(elf(needed=["libstdc++.so.6", "libc.so.6"]))
    return path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "their own"
    folder.mkdir()
    for name in ("libaaa.so.1", "libstdc++.so.6", "libz.1.dylib"):
        (folder / name).write_bytes(elf(soname=name))
    return folder


LINUX = [
    "{theirs}/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by {ours})",
    "{ours}: undefined symbol: _ZSt28__throw_bad_array_new_lengthv",
    "{ours}: symbol lookup error: undefined symbol: x, version CXXABI_1.3",
]
MACOS = [
    (
        "dlopen({ours}, 0x0002): Symbol not found: _deflate Referenced from: <A1> {ours} "
        "Expected in: <B2> {theirs}/libz.1.dylib"
    ),
    (
        "dlopen({ours}, 0x0002): Library not loaded: @rpath/libz.1.dylib Reason: tried: "
        "'/no/libz.1.dylib' (no such file), '{theirs}/libz.1.dylib' (incompatible architecture)"
    ),
]


@pytest.mark.parametrize(
    ("said", "variable", "name"),
    [(said, "LD_LIBRARY_PATH", "libstdc++.so.6") for said in LINUX]
    + [(said, "DYLD_LIBRARY_PATH", "libz.1.dylib") for said in MACOS],
)
def test_words_of_linkers_lead_to_library_and_variable(
    ours: Path, theirs: Path, said: str, variable: str, name: str
) -> None:
    error = ModelError("the libraries cannot be imported")
    error.__cause__ = ImportError(said.format(ours=ours, theirs=theirs))
    found = diagnosis.named(error, {variable: f"/nowhere:{theirs}"})
    assert found is not None
    assert found.exit_code == 10
    assert found.facts == {"variable": variable, "library": name}
    assert str(theirs / name) in found.why


def test_a_damaged_library_beside_a_harmless_variable_is_not_blamed_on_it(
    ours: Path, tmp_path: Path
) -> None:
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "libcuda.so.1").write_bytes(elf())
    error = ImportError(f"{ours}: undefined symbol: x")
    assert diagnosis.named(error, {"LD_LIBRARY_PATH": str(tmp_path / "cuda")}) is None
    assert diagnosis.named(error, {}) is None


def test_an_error_that_is_no_linkers_is_left_alone(theirs: Path) -> None:
    error = ImportError(f"cannot import name x from {theirs}/libstdc++.so.6")
    assert diagnosis.named(error, {"LD_LIBRARY_PATH": str(theirs)}) is None
