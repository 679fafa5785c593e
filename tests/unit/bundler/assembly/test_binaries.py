"""Reading native files: formats, imports, search folders, versions, and what is no binary."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler.assembly import binaries
from bundler.assembly.binaries import Import
from bundler.errors import VerificationError
from tests.support import tinybinaries

if TYPE_CHECKING:
    from bundler.assembly.binaries import Binary


def read(tmp_path: Path, data: bytes, architecture: str = "") -> Binary:
    path = tmp_path / "file"
    path.write_bytes(data)
    found = binaries.read(path, architecture=architecture)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x7fEL", id="shorter than any magic"),
        pytest.param(b"print('hello')\n", id="text"),
        pytest.param(b"\xca\xfe\xba\xbe\x00\x00\x00\x34" + bytes(64), id="Java class"),
        pytest.param(b"MZ is how this text begins" + bytes(64), id="text that begins with MZ"),
        pytest.param(b"MZ", id="two letters"),
        pytest.param(b"MZ".ljust(0x3C, b"\0") + b"\xff\xff\xff\x7f", id="DOS program"),
        pytest.param(b"!<arch>\nmember", id="static library"),
    ],
)
def test_a_file_that_is_no_binary_reads_as_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert binaries.read(path) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(tinybinaries.elf()[:40], id="elf"),
        pytest.param(tinybinaries.macho()[:20], id="macho"),
        pytest.param(tinybinaries.pe()[:0x50], id="pe"),
        pytest.param(tinybinaries.elf(needed=["libc.so.6"])[:-8], id="end of elf"),
        pytest.param(tinybinaries.macho(needed=["/usr/lib/a.dylib"])[:60], id="end of macho"),
        pytest.param(tinybinaries.pe(needed=["KERNEL32.dll"])[:-8], id="end of pe"),
    ],
)
def test_a_binary_cut_short_is_an_error_and_not_a_text(
    tmp_path: Path, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "torn.so"
    path.write_bytes(data)
    with pytest.raises(VerificationError, match=r"torn\.so begins as a"):
        binaries.read(path)
    assert capfd.readouterr() == ("", "")


def test_an_elf_library_tells_its_imports_with_the_symbol_versions_it_wants(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        tinybinaries.elf(
            soname="libours.so.1",
            needed=["libplain.so"],
            versions={"libc.so.6": ["GLIBC_2.17", "GLIBC_2.5"], "libm.so.6": ["GLIBC_2.27"]},
        ),
    )
    assert found.format == "elf"
    assert found.kind == "library"
    assert found.architectures == ("x64",)
    assert found.name == "libours.so.1"
    assert found.imports == (
        Import(name="libplain.so"),
        Import(name="libc.so.6", versions=("GLIBC_2.17", "GLIBC_2.5")),
        Import(name="libm.so.6", versions=("GLIBC_2.27",)),
    )


def test_an_elf_runpath_is_its_own_and_an_rpath_serves_what_it_loads(tmp_path: Path) -> None:
    runpath = read(tmp_path, tinybinaries.elf(runpath="$ORIGIN:$ORIGIN/lib  :"))
    assert runpath.rpaths == ("$ORIGIN", "$ORIGIN/lib")
    assert not runpath.rpath_is_inherited
    rpath = read(tmp_path, tinybinaries.elf(rpath="$ORIGIN/../x.libs"))
    assert rpath.rpaths == ("$ORIGIN/../x.libs",)
    assert rpath.rpath_is_inherited


def test_a_runpath_beside_an_rpath_makes_the_loader_forget_the_rpath(tmp_path: Path) -> None:
    found = read(tmp_path, tinybinaries.elf(rpath="$ORIGIN/old", runpath="$ORIGIN/new"))
    assert found.rpaths == ("$ORIGIN/new",)
    assert not found.rpath_is_inherited


@pytest.mark.parametrize(("stack", "expected"), [("rw", False), ("rwx", True), (None, True)])
def test_an_elf_file_asks_for_executable_stacks_also_by_saying_nothing(
    tmp_path: Path, stack: str | None, expected: bool
) -> None:
    assert read(tmp_path, tinybinaries.elf(stack=stack)).has_executable_stack is expected


def test_text_relocations_are_seen(tmp_path: Path) -> None:
    assert read(tmp_path, tinybinaries.elf(textrel=True)).has_text_relocations
    assert not read(tmp_path, tinybinaries.elf()).has_text_relocations


def test_an_elf_file_with_an_interpreter_is_a_program_of_its_architecture(tmp_path: Path) -> None:
    found = read(tmp_path, tinybinaries.elf(program=True, machine="arm64"))
    assert (found.kind, found.architectures) == ("program", ("arm64",))


def test_macho_library_tells_imports_and_oldest_system(
    tmp_path: Path,
) -> None:
    found = read(
        tmp_path,
        tinybinaries.macho(
            install_name="@rpath/libours.dylib",
            needed=["/usr/lib/libSystem.B.dylib"],
            weak=["/System/Library/Frameworks/Metal.framework/Metal"],
            rpaths=["@loader_path", "@loader_path/../lib"],
            minimum=(14, 2),
        ),
    )
    assert found.name == "@rpath/libours.dylib"
    assert found.imports == (
        Import(name="/usr/lib/libSystem.B.dylib"),
        Import(name="/System/Library/Frameworks/Metal.framework/Metal", optional=True),
    )
    assert found.rpaths == ("@loader_path", "@loader_path/../lib")
    assert found.rpath_is_inherited
    assert found.minimum == "14.2"
    assert found.is_signed


def test_an_unsigned_macho_program_is_both(tmp_path: Path) -> None:
    found = read(tmp_path, tinybinaries.macho(program=True, signed=False))
    assert (found.kind, found.is_signed) == ("program", False)


def test_of_a_fat_macho_file_the_slice_asked_for_is_read(tmp_path: Path) -> None:
    data = tinybinaries.fat(
        {
            "x64": tinybinaries.macho(machine="x64", minimum=(10, 15)),
            "arm64": tinybinaries.macho(machine="arm64", minimum=(12, 0)),
        }
    )
    assert read(tmp_path, data, "arm64").minimum == "12.0"
    assert read(tmp_path, data, "x64").minimum == "10.15"
    assert read(tmp_path, data).architectures == ("x64", "arm64")


def test_a_pe_library_tells_its_imports_and_its_subsystem(tmp_path: Path) -> None:
    found = read(
        tmp_path, tinybinaries.pe(needed=["KERNEL32.dll", "MSVCP140.dll"], subsystem=(6, 1))
    )
    assert (found.format, found.kind, found.architectures) == ("pe", "library", ("x64",))
    assert [wanted.name for wanted in found.imports] == ["KERNEL32.dll", "MSVCP140.dll"]
    assert found.minimum == "6.1"
    assert (found.toolset, found.version) == ("14.00", "")
    assert not found.is_signed


def test_a_pe_file_tells_the_version_that_its_resources_give(tmp_path: Path) -> None:
    found = read(tmp_path, tinybinaries.pe(toolset=(14, 50), version=(14, 51)))
    assert (found.toolset, found.version) == ("14.50", "14.51")


def test_a_pe_program_for_another_processor_says_so(tmp_path: Path) -> None:
    found = read(tmp_path, tinybinaries.pe(program=True, machine="arm64"))
    assert (found.kind, found.architectures) == ("program", ("arm64",))


@pytest.mark.skipif(sys.platform != "linux", reason="reads a wheel's real ELF file")
def test_a_real_extension_module_is_read() -> None:
    spec = importlib.util.find_spec("pydantic_core._pydantic_core")
    assert spec is not None
    assert spec.origin is not None
    found = binaries.read(Path(spec.origin))
    assert found is not None
    assert found.kind == "library"
    libc = next(wanted for wanted in found.imports if wanted.name == "libc.so.6")
    assert any(version.startswith("GLIBC_2.") for version in libc.versions)
    assert not found.has_executable_stack
