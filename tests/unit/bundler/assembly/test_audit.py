"""The audit of a whole tree: findings with remedies, waivers, the floor, and the refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.assembly.audit import REMEDIES, audit, require_clean
from bundler.assembly.linkage import AuditRules, Family, Forbidden, Waiver
from bundler.errors import PolicyError
from bundler.targets import TARGETS
from tests.support import tinybinaries

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.assembly.audit import AuditReport, Finding

LINUX = TARGETS["linux-x64"]
MAC = TARGETS["mac-arm64"]
WINDOWS = TARGETS["win-x64"]
SITE = "python/lib/python3.11/site-packages"
OPENMP = Family(name="OpenMP", files=("libgomp*", "libomp.*"), why="cores are claimed twice")
RULES = AuditRules(
    system=("libc.so.6", "/usr/lib/*", "kernel32.dll"),
    required=("libstdc++.so.6",),
    floor="2.28",
    families=(OPENMP,),
    versioned=("msvcp140.dll",),
)
MAC_RULES = replace(RULES, floor="14.0")
WINDOWS_RULES = replace(RULES, floor="10.0")


def tree(root: Path, **files: bytes) -> Path:
    """Write files below `root`; in a name, __ is a slash, and what follows it is kept."""
    for name, data in files.items():
        write(root, f"{SITE}/{name.replace('__', '/')}", data)
    return root


def write(root: Path, path: str, data: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)


def codes(report: AuditReport) -> list[tuple[str, str, str]]:
    return [(one.code, one.path.removeprefix(f"{SITE}/"), one.subject) for one in report.findings]


def only(report: AuditReport) -> Finding:
    assert len(report.findings) == 1
    return report.findings[0]


def test_a_tree_whose_imports_all_resolve_is_clean_and_tells_its_floor(tmp_path: Path) -> None:
    write(tmp_path, f"{SITE}/readme.txt", b"text")
    write(
        tmp_path,
        f"{SITE}/p/a.so",
        tinybinaries.elf(
            needed=["libb.so"], versions={"libc.so.6": ["GLIBC_2.17"]}, runpath="$ORIGIN/../p.libs"
        ),
    )
    write(tmp_path, f"{SITE}/p.libs/libb.so", tinybinaries.elf(needed=["libstdc++.so.6"]))
    report = audit(tmp_path, LINUX, RULES)
    assert report.findings == ()
    assert report.binaries == 2
    assert (report.floor.version, report.floor.forced_by) == ("2.17", f"{SITE}/p/a.so")
    assert list(report.floor.libraries) == ["libstdc++.so.6"]
    require_clean(report)


def test_an_import_that_nothing_answers_names_file_library_and_remedy(tmp_path: Path) -> None:
    tree(tmp_path, p__a=tinybinaries.elf(needed=["libmissing.so.4"]))
    finding = only(audit(tmp_path, LINUX, RULES))
    assert finding.code == "unresolved-import"
    assert "libmissing.so.4" in finding.what
    assert "diet rule" in REMEDIES[finding.code]
    assert finding.fails


def test_a_missing_import_of_a_library_tells_which_module_leads_there(tmp_path: Path) -> None:
    tree(
        tmp_path,
        a=tinybinaries.elf(needed=["libb"], runpath="$ORIGIN"),
        libb=tinybinaries.elf(needed=["libc.so.9"]),
    )
    assert f"when {SITE}/a is loaded" in only(audit(tmp_path, LINUX, RULES)).what


def test_a_missing_weak_import_is_told_and_does_not_fail(tmp_path: Path) -> None:
    tree(tmp_path, a=tinybinaries.macho(weak=["@rpath/libsometimes.dylib"]))
    report = audit(tmp_path, MAC, MAC_RULES)
    assert only(report).code == "unresolved-import"
    assert report.failures == ()


def test_a_mac_import_from_a_package_manager_is_outside(tmp_path: Path) -> None:
    tree(tmp_path, a=tinybinaries.macho(needed=["/opt/homebrew/lib/libx.dylib"]))
    finding = only(audit(tmp_path, MAC, MAC_RULES))
    assert (finding.code, finding.fails) == ("outside-import", True)


def test_binary_for_another_processor_is_one_finding(tmp_path: Path) -> None:
    tree(
        tmp_path,
        a=tinybinaries.elf(needed=["libb"], runpath="$ORIGIN"),
        libb=tinybinaries.elf(machine="arm64", stack="rwx"),
    )
    assert codes(audit(tmp_path, LINUX, RULES)) == [
        ("unresolved-import", "a", "libb"),
        ("wrong-architecture", "libb", "arm64"),
    ]


def test_a_fat_library_with_the_right_slice_will_do(tmp_path: Path) -> None:
    slices = {"x64": tinybinaries.macho(machine="x64"), "arm64": tinybinaries.macho()}
    tree(tmp_path, a=tinybinaries.fat(slices))
    assert audit(tmp_path, MAC, MAC_RULES).findings == ()


def test_a_launcher_for_another_system_is_a_warning(tmp_path: Path) -> None:
    tree(tmp_path, gui=tinybinaries.pe(needed=["nothing.dll"], program=True))
    report = audit(tmp_path, LINUX, RULES)
    assert codes(report) == [("foreign-format", "gui", "pe")]
    assert report.failures == ()


def test_a_torn_binary_is_a_finding_and_the_rest_is_still_audited(tmp_path: Path) -> None:
    tree(tmp_path, a=tinybinaries.elf()[:40], b=tinybinaries.elf(needed=["libx.so"]))
    assert codes(audit(tmp_path, LINUX, RULES)) == [
        ("unreadable-binary", "a", "a"),
        ("unresolved-import", "b", "libx.so"),
    ]


@pytest.mark.parametrize(
    ("data", "code", "subject"),
    [
        (tinybinaries.elf(stack="rwx"), "executable-stack", "PT_GNU_STACK"),
        (tinybinaries.elf(textrel=True), "text-relocations", "DT_TEXTREL"),
        (tinybinaries.elf(runpath="/home/builder/lib"), "absolute-rpath", "/home/builder/lib"),
        (tinybinaries.elf(runpath="lib"), "absolute-rpath", "lib"),
        (
            tinybinaries.elf(runpath="$ORIGIN/" + "../" * 9),
            "escaping-rpath",
            "$ORIGIN/" + "../" * 9,
        ),
    ],
)
def test_what_is_wrong_with_one_elf_file_is_found(
    tmp_path: Path, data: bytes, code: str, subject: str
) -> None:
    tree(tmp_path, a=data)
    report = audit(tmp_path, LINUX, RULES)
    assert codes(report) == [(code, "a", subject)]
    assert report.failures == report.findings


def test_an_unsigned_library_for_apple_silicon_is_found(tmp_path: Path) -> None:
    tree(tmp_path, a=tinybinaries.macho(signed=False))
    assert codes(audit(tmp_path, MAC, MAC_RULES)) == [("unsigned-binary", "a", "code signature")]


def test_a_mac_search_folder_fails_only_where_a_name_is_searched(tmp_path: Path) -> None:
    tree(
        tmp_path,
        idle=tinybinaries.macho(rpaths=["/opt/build/lib"]),
        used=tinybinaries.macho(rpaths=["/opt/build/lib", "@loader_path"], needed=["@rpath/idle"]),
    )
    report = audit(tmp_path, MAC, MAC_RULES)
    assert [(one.path.rpartition("/")[2], one.fails) for one in report.findings] == [
        ("idle", False),
        ("used", True),
    ]


def test_two_openmp_runtimes_are_a_finding_that_lists_each_path(tmp_path: Path) -> None:
    names = {"torch__lib__libgomp.so.1": tinybinaries.elf()}
    tree(tmp_path, **names, **{"sk.libs__libgomp-1a2b.so.1": tinybinaries.elf()})
    finding = only(audit(tmp_path, LINUX, RULES))
    assert finding.code == "duplicate-library"
    assert f"{SITE}/sk.libs/libgomp-1a2b.so.1, {SITE}/torch/lib/libgomp.so.1" in finding.what
    assert OPENMP.why in finding.what


def test_one_openmp_runtime_is_none_too_many(tmp_path: Path) -> None:
    tree(tmp_path, **{"torch__lib__libgomp.so.1": tinybinaries.elf()})
    assert audit(tmp_path, LINUX, RULES).findings == ()


def test_a_waiver_tells_its_reason_and_lets_the_tree_pass(tmp_path: Path) -> None:
    tree(tmp_path, p__a=tinybinaries.elf(needed=["libx.so"]))
    waiver = Waiver(path="*/p/*", subject="libx.so", reason="nothing imports p.a")
    report = audit(tmp_path, LINUX, AuditRules(floor="2.28", waivers=(waiver,)))
    assert only(report).waived == "nothing imports p.a"
    require_clean(report)


def test_a_waiver_that_excuses_nothing_is_told(tmp_path: Path) -> None:
    waiver = Waiver(path="*/gone/*", subject="libx.so", reason="it was there once")
    tree(tmp_path, a=tinybinaries.elf())
    report = audit(tmp_path, LINUX, AuditRules(waivers=(waiver,)))
    assert codes(report) == [("idle-waiver", "*/gone/*", "libx.so")]
    assert report.failures == ()


def test_a_declared_floor_below_the_computed_one_fails_and_names_the_file(tmp_path: Path) -> None:
    tree(tmp_path, a=tinybinaries.elf(versions={"libc.so.6": ["GLIBC_2.34"]}))
    report = audit(tmp_path, LINUX, RULES)
    finding = only(report)
    assert (finding.code, finding.path) == ("floor-too-low", f"{SITE}/a")
    assert "glibc 2.34 (GLIBC_2.34); the recipe promises 2.28" in finding.what
    with pytest.raises(PolicyError) as caught:
        require_clean(report)
    assert caught.value.exit_code == 7
    assert "floor-too-low" in caught.value.why


def test_for_the_host_s_runtime_the_floor_is_reported_only(tmp_path: Path) -> None:
    tree(tmp_path, a=tinybinaries.elf(versions={"libc.so.6": ["GLIBC_2.34"]}))
    report = audit(tmp_path, LINUX, RULES, floor_is_enforced=False)
    assert (only(report).code, only(report).severity) == ("floor-too-low", "warning")
    require_clean(report)


def test_msvcp140_is_missing_until_something_ships_it_beside_python(tmp_path: Path) -> None:
    write(tmp_path, "python/python.exe", tinybinaries.pe(program=True))
    module = tinybinaries.pe(needed=["KERNEL32.dll", "MSVCP140.dll"])
    write(tmp_path, "python/Lib/site-packages/torch/_C.pyd", module)
    missing = only(audit(tmp_path, WINDOWS, WINDOWS_RULES))
    assert (missing.code, missing.subject) == ("unresolved-import", "MSVCP140.dll")
    write(tmp_path, "python/msvcp140.dll", tinybinaries.pe())
    assert audit(tmp_path, WINDOWS, WINDOWS_RULES).failures == ()


def test_a_runtime_older_than_the_importer_s_tools_is_told(tmp_path: Path) -> None:
    write(tmp_path, "python/python.exe", tinybinaries.pe(program=True))
    write(tmp_path, "python/a.pyd", tinybinaries.pe(needed=["MSVCP140.dll"], toolset=(14, 51)))
    write(tmp_path, "python/msvcp140.dll", tinybinaries.pe(toolset=(14, 51), version=(14, 44)))
    finding = only(audit(tmp_path, WINDOWS, WINDOWS_RULES))
    assert (finding.code, finding.severity) == ("older-runtime", "warning")
    assert "built with 14.51 and gets python/msvcp140.dll, which is 14.44" in finding.what
    write(tmp_path, "python/msvcp140.dll", tinybinaries.pe(toolset=(14, 50), version=(14, 51)))
    assert audit(tmp_path, WINDOWS, WINDOWS_RULES).findings == ()


def test_a_folder_that_a_package_adds_answers_its_own_modules(tmp_path: Path) -> None:
    site = "python/Lib/site-packages"
    write(tmp_path, f"{site}/numpy/core.pyd", tinybinaries.pe(needed=["blas.dll"]))
    write(tmp_path, f"{site}/numpy.libs/blas.dll", tinybinaries.pe())
    folders = (("*/numpy/*", f"{site}/numpy.libs"),)
    assert audit(tmp_path, WINDOWS, AuditRules(folders=folders)).findings == ()
    assert only(audit(tmp_path, WINDOWS, AuditRules())).subject == "blas.dll"


def test_a_refusal_tells_one_trouble_of_many_files_once(tmp_path: Path) -> None:
    lone = tinybinaries.elf(needed=["libx.so"])
    tree(tmp_path, a=lone, b=lone, c=lone, gui=tinybinaries.pe(program=True))
    report = audit(tmp_path, LINUX, RULES)
    assert len(report.failures) == 3
    with pytest.raises(PolicyError, match="found 3 failures") as caught:
        require_clean(report)
    assert caught.value.why.count("[unresolved-import]") == 1
    assert f"error [unresolved-import] {SITE}/a (and 2 more files)" in caught.value.why
    assert REMEDIES["unresolved-import"] in caught.value.why
    assert "[foreign-format]" not in caught.value.why


def test_the_same_tree_gives_the_same_report_in_any_place(tmp_path: Path) -> None:
    reports = []
    for place, order in (("one", ("a", "b")), ("two of them", ("b", "a"))):
        for name in order:
            write(tmp_path / place, f"{SITE}/{name}", tinybinaries.elf(needed=["libx.so"]))
        reports.append(audit(tmp_path / place, LINUX, RULES))
    assert reports[0] == reports[1]


def test_tree_without_runtime_assumes_its_libraries(
    tmp_path: Path,
) -> None:
    write(tmp_path, "python/Lib/site-packages/a.pyd", tinybinaries.pe(needed=["PYTHON311.dll"]))
    write(tmp_path, "python/Lib/site-packages/b.pyd", tinybinaries.pe(needed=["other.dll"]))
    rules = replace(WINDOWS_RULES, runtime=("python311.dll", "vcruntime140.dll"))
    report = audit(tmp_path, WINDOWS, rules, lacks_runtime=True)
    assert [(one.code, one.subject) for one in report.findings] == [
        ("left-to-runtime", "PYTHON311.dll"),
        ("unresolved-import", "other.dll"),
    ]
    assert [one.subject for one in report.failures] == ["other.dll"]
    assert report.left_to_runtime == ("PYTHON311.dll",)
    assert "presumably of the runtime" in report.findings[0].what


def test_a_runtime_that_is_there_must_bring_its_own_libraries(tmp_path: Path) -> None:
    write(tmp_path, "python/Lib/site-packages/a.pyd", tinybinaries.pe(needed=["python311.dll"]))
    rules = replace(WINDOWS_RULES, runtime=("python311.dll",))
    report = audit(tmp_path, WINDOWS, rules)
    assert [(one.code, one.fails) for one in report.findings] == [("unresolved-import", True)]
    assert report.left_to_runtime == ()
    write(tmp_path, "python/python311.dll", tinybinaries.pe(needed=["kernel32.dll"]))
    assert audit(tmp_path, WINDOWS, rules).findings == ()


def test_a_library_that_is_forbidden_is_found_inside_native_files_alone(tmp_path: Path) -> None:
    berkeley = Forbidden(
        name="Berkeley DB",
        markers=("Berkeley DB", "Sleepycat"),
        why="its licence asks for all sources",
    )
    tree(
        tmp_path,
        **{
            "dbm.so": tinybinaries.elf() + bytes(5000) + b"Sleepycat Software: Berkeley DB 6.0",
            "other.so": tinybinaries.elf() + b"sleepy cats",
            "licences.py": b"KNOWN = ['Sleepycat']",
        },
    )
    rules = replace(RULES, forbidden=(berkeley,))
    finding = only(audit(tmp_path, LINUX, rules))
    assert (finding.code, finding.subject) == ("forbidden-library", "Berkeley DB")
    assert finding.path == f"{SITE}/dbm.so"
    assert finding.fails
    assert "'Berkeley DB'" in finding.what
    assert "asks for all sources" in finding.what
    assert audit(tmp_path, LINUX, RULES).findings == ()
