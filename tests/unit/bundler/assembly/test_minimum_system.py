"""The oldest system that will do, and the file that says so."""

from __future__ import annotations

import pytest

from bundler.assembly import linkage
from bundler.assembly.binaries import Binary, Format, Import
from bundler.assembly.linkage import Link, Provider


def link(
    importer: str, name: str, *versions: str, provider: Provider = "system", optional: bool = False
) -> Link:
    wanted = Import(name=name, versions=versions, optional=optional)
    return Link(importer=importer, wanted=wanted, provider=provider, root=importer)


def native(form: Format, minimum: str) -> Binary:
    return Binary(format=form, kind="library", architectures=("x64",), minimum=minimum)


@pytest.mark.parametrize(
    ("older", "newer"), [("2.5", "2.28"), ("2.3", "2.3.4"), ("9.0", "10.0"), ("10.15", "11.0")]
)
def test_versions_are_ordered_as_numbers(older: str, newer: str) -> None:
    assert linkage.version_key(older) < linkage.version_key(newer)


def test_the_newest_glibc_symbol_of_any_library_is_the_floor_with_its_file() -> None:
    found = linkage.minimum_system(
        {},
        [
            link("a.so", "libc.so.6", "GLIBC_2.5", "GLIBC_2.17"),
            link("b.so", "libm.so.6", "GLIBC_2.28"),
            link("c.so", "libstdc++.so.6", "GLIBCXX_3.4.30", provider="required"),
            link("d.so", "libc.so.6", "GLIBC_PRIVATE"),
        ],
        system="linux",
        introduced={},
    )
    assert (found.system, found.version, found.forced_by) == ("glibc", "2.28", "b.so")
    assert found.because == "GLIBC_2.28"


def test_first_file_by_path_is_named_for_the_floor() -> None:
    made = [link(name, "libc.so.6", "GLIBC_2.28") for name in ("z.so", "a.so", "m.so")]
    for order in (made, made[::-1]):
        assert linkage.minimum_system({}, order, system="linux", introduced={}).forced_by == "a.so"


def test_system_library_is_told_with_its_newest_versions() -> None:
    found = linkage.minimum_system(
        {},
        [
            link("a.so", "libstdc++.so.6", "GLIBCXX_3.4.9", "CXXABI_1.3", provider="required"),
            link("b.so", "libstdc++.so.6", "GLIBCXX_3.4.22", provider="required"),
            link("c.so", "libz.so.1", provider="required"),
            link("d.so", "libown.so", "OWN_9", provider="bundle"),
        ],
        system="linux",
        introduced={},
    )
    assert found.libraries == {
        "libstdc++.so.6": ("CXXABI_1.3", "GLIBCXX_3.4.22"),
        "libz.so.1": (),
    }


def test_the_newest_minimum_of_any_mac_library_is_the_floor() -> None:
    tree = {
        "a.dylib": native("macho", "11.0"),
        "b.dylib": native("macho", "14.0"),
        "c.so": native("elf", ""),
    }
    found = linkage.minimum_system(tree, [], system="mac", introduced={})
    assert (found.system, found.version, found.forced_by) == ("macOS", "14.0", "b.dylib")


def test_later_windows_library_raises_the_floor() -> None:
    tree = {"a.dll": native("pe", "6.0"), "b.dll": native("pe", "5.2")}
    made = [link("b.dll", "API-MS-Win-Core-Path-L1-1-0.dll"), link("a.dll", "kernel32.dll")]
    since = {"api-ms-win-core-path-l1-1-0.dll": "6.2"}
    found = linkage.minimum_system(tree, made, system="win", introduced=since)
    assert (found.version, found.forced_by) == ("6.2", "b.dll")
    assert found.because == "API-MS-Win-Core-Path-L1-1-0.dll"


def test_a_delayed_import_raises_nothing() -> None:
    made = [link("b.dll", "new.dll", optional=True)]
    found = linkage.minimum_system(
        {"a.dll": native("pe", "6.0")}, made, system="win", introduced={"new.dll": "10.0"}
    )
    assert found.version == "6.0"


def test_a_tree_without_binaries_has_no_floor() -> None:
    found = linkage.minimum_system({}, [], system="linux", introduced={})
    assert (found.version, found.as_mapping()) == ("", {})


def test_the_manifest_gets_the_floor_as_flat_text() -> None:
    made = [
        link("a.so", "libc.so.6", "GLIBC_2.28"),
        link("a.so", "libgcc_s.so.1", "GCC_3.0", provider="required"),
        link("a.so", "libz.so.1", provider="required"),
    ]
    found = linkage.minimum_system({}, made, system="linux", introduced={})
    assert found.as_mapping() == {
        "glibc": "2.28",
        "glibc forced by": "a.so",
        "libgcc_s.so.1": "GCC_3.0",
        "libz.so.1": "any",
    }
