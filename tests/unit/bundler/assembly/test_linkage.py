"""Which file answers an import, by the rules of each system's loader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.assembly.binaries import Binary, Import
from bundler.assembly.linkage import AuditRules, links

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bundler.assembly.linkage import Link

PROGRAM = "python/bin/python3.11"


def elf(
    *needed: str, soname: str = "", runpath: str = "", rpath: str = "", machine: str = "x64"
) -> Binary:
    return Binary(
        format="elf",
        kind="library",
        architectures=(machine,),
        imports=tuple(Import(name=name) for name in needed),
        name=soname,
        rpaths=tuple((runpath or rpath).split(":")) if runpath or rpath else (),
        rpath_is_inherited=bool(rpath),
    )


def macho(*needed: str, name: str = "", rpaths: tuple[str, ...] = ()) -> Binary:
    return Binary(
        format="macho",
        kind="library",
        architectures=("arm64",),
        imports=tuple(Import(name=one) for one in needed),
        name=name,
        rpaths=rpaths,
        rpath_is_inherited=True,
    )


def pe(*needed: str) -> Binary:
    return Binary(
        format="pe",
        kind="library",
        architectures=("x64",),
        imports=tuple(Import(name=one) for one in needed),
    )


def answers(
    tree: Mapping[str, Binary],
    rules: AuditRules | None = None,
    *,
    program: str = PROGRAM,
    architecture: str = "x64",
) -> dict[tuple[str, str], str]:
    """Return (importer, import) to the file that answers, or to what else does."""
    found: list[Link] = list(
        links(tree, program=program, architecture=architecture, rules=rules or AuditRules())
    )
    return {(link.importer, link.wanted.name): link.found or link.provider for link in found}


def test_an_origin_runpath_finds_the_library_in_its_folder() -> None:
    tree = {"s/a.so": elf("libb.so", runpath="$ORIGIN/../s.libs"), "s.libs/libb.so": elf()}
    assert answers(tree) == {("s/a.so", "libb.so"): "s.libs/libb.so"}


def test_a_library_that_nothing_points_at_is_not_found() -> None:
    tree = {"s/a.so": elf("libb.so"), "s/libb.so": elf()}
    assert answers(tree) == {("s/a.so", "libb.so"): "nothing"}


def test_a_library_loaded_before_answers_to_its_soname_wherever_it_lies() -> None:
    tree = {
        "t/a.so": elf("libone.so", "libtwo.so", runpath="$ORIGIN/lib"),
        "t/lib/libone.so": elf("libtwo.so.2"),
        "t/lib/libtwo.so": elf(soname="libtwo.so.2"),
    }
    found = answers(tree)
    assert found["t/lib/libone.so", "libtwo.so.2"] == "t/lib/libtwo.so"


def test_what_the_program_has_loaded_serves_every_module() -> None:
    tree = {
        PROGRAM: elf("libssl.so.3", runpath="$ORIGIN/../lib"),
        "python/lib/libssl.so.3": elf(soname="libssl.so.3"),
        "s/_ssl.so": elf("libssl.so.3"),
    }
    assert answers(tree)["s/_ssl.so", "libssl.so.3"] == "python/lib/libssl.so.3"


def test_what_one_module_has_loaded_does_not_serve_another() -> None:
    tree = {
        "s/a.so": elf("libb.so", runpath="$ORIGIN"),
        "s/libb.so": elf(soname="libb.so"),
        "s/z.so": elf("libb.so"),
    }
    assert answers(tree)["s/z.so", "libb.so"] == "nothing"


def test_an_rpath_serves_the_libraries_it_loads_and_a_runpath_does_not() -> None:
    inner = {"s/libs/libb.so": elf("libc2.so"), "s/libs/libc2.so": elf()}
    inherited = {"s/a.so": elf("libb.so", rpath="$ORIGIN/libs"), **inner}
    assert answers(inherited)["s/libs/libb.so", "libc2.so"] == "s/libs/libc2.so"
    alone = {"s/a.so": elf("libb.so", runpath="$ORIGIN/libs"), **inner}
    assert answers(alone)["s/libs/libb.so", "libc2.so"] == "nothing"


def test_a_runpath_shuts_out_the_rpath_of_its_loader() -> None:
    tree = {
        "s/a.so": elf("libb.so", rpath="$ORIGIN/libs"),
        "s/libs/libb.so": elf("libc2.so", runpath="$ORIGIN/nowhere"),
        "s/libs/libc2.so": elf(),
    }
    assert answers(tree)["s/libs/libb.so", "libc2.so"] == "nothing"


def test_a_library_for_another_processor_answers_nothing() -> None:
    tree = {"s/a.so": elf("libb.so", runpath="$ORIGIN"), "s/libb.so": elf(machine="arm64")}
    assert answers(tree)["s/a.so", "libb.so"] == "nothing"


def test_libraries_resolve_to_bundle_then_system() -> None:
    rules = AuditRules(system=("libc.so.6",), required=("libstdc++.so.6", "libz.so.1"))
    tree = {
        "s/a.so": elf("libc.so.6", "libstdc++.so.6", "libz.so.1", runpath="$ORIGIN"),
        "s/libz.so.1": elf(),
    }
    assert answers(tree, rules) == {
        ("s/a.so", "libc.so.6"): "system",
        ("s/a.so", "libstdc++.so.6"): "required",
        ("s/a.so", "libz.so.1"): "s/libz.so.1",
    }


def test_libraries_that_need_each_other_end() -> None:
    tree = {"s/a.so": elf("b.so", runpath="$ORIGIN"), "s/b.so": elf("a.so", runpath="$ORIGIN")}
    assert answers(tree) == {("s/a.so", "b.so"): "s/b.so", ("s/b.so", "a.so"): "s/a.so"}


def test_macho_names_resolve_from_file_program_and_rpaths() -> None:
    tree = {
        PROGRAM: macho(),
        "t/a.so": macho(
            "@loader_path/../d/one.dylib",
            "@executable_path/../lib/two.dylib",
            "@rpath/three.dylib",
            rpaths=("/opt/nowhere", "@loader_path/lib/"),
        ),
        "d/one.dylib": macho(),
        "python/lib/two.dylib": macho(),
        "t/lib/three.dylib": macho("@rpath/four.dylib"),
        "t/lib/four.dylib": macho(),
    }
    found = answers(tree, architecture="arm64")
    assert found["t/a.so", "@loader_path/../d/one.dylib"] == "d/one.dylib"
    assert found["t/a.so", "@executable_path/../lib/two.dylib"] == "python/lib/two.dylib"
    assert found["t/a.so", "@rpath/three.dylib"] == "t/lib/three.dylib"
    # three.dylib has no search folders: those of a.so, which loaded it, serve.
    assert found["t/lib/three.dylib", "@rpath/four.dylib"] == "t/lib/four.dylib"


def test_a_macho_library_in_a_package_manager_s_folder_is_not_the_system_s() -> None:
    rules = AuditRules(system=("/usr/lib/*", "/System/Library/*"))
    tree = {"t/a.so": macho("/usr/lib/libSystem.B.dylib", "/opt/homebrew/lib/libomp.dylib")}
    assert answers(tree, rules, architecture="arm64") == {
        ("t/a.so", "/usr/lib/libSystem.B.dylib"): "system",
        ("t/a.so", "/opt/homebrew/lib/libomp.dylib"): "nothing",
    }


def test_windows_searches_module_and_program_in_any_case() -> None:
    tree = {
        "python/python.exe": pe("python311.dll"),
        "python/python311.dll": pe(),
        "python/msvcp140.dll": pe(),
        "s/a.pyd": pe("PYTHON311.dll", "MSVCP140.dll", "Beside.dll"),
        "s/beside.dll": pe(),
    }
    found = answers(tree, program="python/python.exe")
    assert found["s/a.pyd", "MSVCP140.dll"] == "python/msvcp140.dll"
    assert found["s/a.pyd", "Beside.dll"] == "s/beside.dll"
    assert found["s/a.pyd", "PYTHON311.dll"] == "python/python311.dll"


def test_windows_searches_beside_the_loaded_module_alone() -> None:
    tree = {
        "s/a.pyd": pe("one.dll"),
        "libs/one.dll": pe("two.dll"),
        "libs/two.dll": pe(),
    }
    rules = AuditRules(folders=(("s/a.pyd", "libs"),))
    assert answers(tree)["s/a.pyd", "one.dll"] == "nothing"
    assert answers(tree, rules)["libs/one.dll", "two.dll"] == "libs/two.dll"


def test_a_folder_that_one_package_adds_does_not_serve_another() -> None:
    rules = AuditRules(folders=(("*/sklearn/*", "p/sklearn/.libs"),))
    tree = {
        "p/sklearn/a.pyd": pe("MSVCP140.dll"),
        "p/sklearn/.libs/msvcp140.dll": pe(),
        "p/torch/b.pyd": pe("MSVCP140.dll"),
    }
    found = answers(tree, rules)
    assert found["p/sklearn/a.pyd", "MSVCP140.dll"] == "p/sklearn/.libs/msvcp140.dll"
    assert found["p/torch/b.pyd", "MSVCP140.dll"] == "nothing"


def test_runtime_libraries_count_where_the_tree_lacks_it() -> None:
    rules = AuditRules(runtime=("python311.dll",))
    tree = {"s/a.pyd": pe("PYTHON311.dll", "other.dll")}
    found = answers(tree, rules)
    assert found["s/a.pyd", "PYTHON311.dll"] == "runtime"
    assert found["s/a.pyd", "other.dll"] == "nothing"
    tree["python/python311.dll"] = pe()
    found = answers(tree, rules, program="python/python.exe")
    assert found["s/a.pyd", "PYTHON311.dll"] == "python/python311.dll"
