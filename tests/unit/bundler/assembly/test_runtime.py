"""A standalone runtime loses what a service never runs, and every trace of where it was built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.assembly import linkage, runtime, safe_extract
from bundler.assembly.audit import audit
from bundler.assembly.exclusions import keeps
from bundler.errors import PolicyError
from bundler.project import Project
from bundler.recipe import read_recipe
from bundler.targets import TARGETS
from tests.support.standalone import entries, few_entries, stdlib, write_release
from tests.support.tinytar import write_tar
from tests.support.treesearch import holding

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.assembly.audit import AuditReport
    from bundler.targets import Target

LINUX, MAC, WINDOWS = TARGETS["linux-x64"], TARGETS["mac-arm64"], TARGETS["win-x64"]
UNIX = [target for target in TARGETS.values() if target.os != "win"]
# What a service never imports of the standard library: whole folders, and single files.
FOLDERS = {"ensurepip", "idlelib", "lib2to3", "tkinter", "turtledemo", "venv"}
FILES = {"crypt.py", "dbm/ndbm.py", "turtle.py"}
KEPT_OF_WINDOWS = {
    *("LICENSE.txt", "python.exe", "pythonw.exe", "python3.dll", "python311.dll"),
    *("vcruntime140.dll", "vcruntime140_1.dll"),
    *("DLLs/libcrypto-3-x64.dll", "DLLs/libffi-8.dll", "DLLs/libssl-3-x64.dll"),
    *("DLLs/sqlite3.dll", "DLLs/_asyncio.pyd", "DLLs/_bz2.pyd", "DLLs/_ctypes.pyd"),
    *("DLLs/_decimal.pyd", "DLLs/_elementtree.pyd", "DLLs/_hashlib.pyd", "DLLs/_lzma.pyd"),
    *("DLLs/_multiprocessing.pyd", "DLLs/_overlapped.pyd", "DLLs/_queue.pyd"),
    *("DLLs/_socket.pyd", "DLLs/_sqlite3.pyd", "DLLs/_ssl.pyd", "DLLs/_uuid.pyd"),
    *("DLLs/_zoneinfo.pyd", "DLLs/pyexpat.pyd", "DLLs/select.pyd", "DLLs/unicodedata.pyd"),
    "DLLs/winsound.pyd",
}
SYSCONFIGDATA = {
    "linux-x64": "_sysconfigdata__linux_x86_64-linux-gnu.py",
    "linux-arm64": "_sysconfigdata__linux_aarch64-linux-gnu.py",
    "mac-arm64": "_sysconfigdata__darwin_darwin.py",
}


def files(root: Path) -> set[str]:
    """Return the paths of the files below `root`."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def unpacked(target: Target, folder: Path, *, is_whole: bool = False) -> Path:
    """Write an archive for `target`, and return what is kept of it, as in a bundle."""
    spec = write_release(folder, target, "https://runtime.invalid", is_whole=is_whole)
    place = folder / "bundle" / "python"
    safe_extract.extract(folder / spec.artifact.name, place, keep=keeps(runtime.rules_for(target)))
    return place


def kept_of_stdlib(target: Target) -> set[str]:
    """Return the sources that must be left, as paths below python/."""
    folder = target.stdlib.removeprefix("python/")
    paths = (path for path in stdlib() if path.partition("/")[0] not in FOLDERS)
    return {f"{folder}/{path}" for path in paths if path not in FILES}


def audited(bundle: Path, target: Target) -> AuditReport:
    """Audit `bundle` by the real recipe."""
    table = read_recipe(Project.here().recipe).sections["audit"]
    rules = linkage.from_recipe(table, system=target.os, target=target.name)
    return audit(bundle, target, rules)


@pytest.mark.parametrize("target", UNIX, ids=lambda target: target.name)
def test_a_unix_runtime_keeps_its_program_and_library_alone(target: Target, tmp_path: Path) -> None:
    place = unpacked(target, tmp_path, is_whole=True)
    own = {"LICENSE.txt", "lib-dynload/.empty", SYSCONFIGDATA[target.name]}
    kept = {"bin/python3.11", *(f"lib/python3.11/{name}" for name in own)}
    assert files(place) == kept | kept_of_stdlib(target)


def test_a_windows_runtime_keeps_what_it_needs(tmp_path: Path) -> None:
    place = unpacked(WINDOWS, tmp_path, is_whole=True)
    assert files(place) == KEPT_OF_WINDOWS | kept_of_stdlib(WINDOWS)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_what_is_kept_of_a_runtime_passes_the_audit(target: Target, tmp_path: Path) -> None:
    report = audited(unpacked(target, tmp_path).parent, target)
    assert report.failures == ()
    assert report.binaries == (len(KEPT_OF_WINDOWS) - 1 if target.os == "win" else 1)


@pytest.mark.parametrize(
    ("target", "name", "found"),
    [
        (LINUX, "_crypt", {("unresolved-import", "libcrypt.so.1")}),
        (LINUX, "_dbm", {("forbidden-library", "Berkeley DB")}),
        (
            WINDOWS,
            "_msi",
            {("unresolved-import", "Cabinet.dll"), ("unresolved-import", "msi.dll")},
        ),
    ],
    ids=["_crypt", "_dbm", "_msi"],
)
def test_a_module_that_is_left_out_would_fail_the_audit(
    target: Target, name: str, found: set[tuple[str, str]], tmp_path: Path
) -> None:
    place = unpacked(target, tmp_path)
    (entry,) = [one for one in entries(target) if f"/{name}." in one.name]
    assert entry.name.removeprefix("python/") not in files(place)
    module = tmp_path / "bundle" / entry.name
    module.parent.mkdir(exist_ok=True)
    module.write_bytes(entry.data)
    failures = audited(tmp_path / "bundle", target).failures
    assert {(one.code, one.subject) for one in failures} == found


def test_a_program_that_loads_libpython_would_fail_the_audit(tmp_path: Path) -> None:
    place = unpacked(LINUX, tmp_path)
    stable = next(one for one in entries(LINUX) if one.name.endswith("/libpython3.so"))
    (place / "lib/libpython3.so").write_bytes(stable.data)
    (failure,) = audited(place.parent, LINUX).failures
    assert (failure.code, failure.subject) == (
        "unresolved-import",
        "$ORIGIN/../lib/libpython3.11.so.1.0",
    )


def test_terminals_that_differ_in_case_are_not_unpacked(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar.gz", few_entries(LINUX))
    with pytest.raises(PolicyError, match="terminfo"):
        safe_extract.extract(archive, tmp_path / "python")


def test_build_paths_become_a_folder_that_is_nowhere(tmp_path: Path) -> None:
    place = unpacked(LINUX, tmp_path)
    runtime.neutralise(place)
    data = next(place.rglob("_sysconfigdata*")).read_text()
    values: dict[str, dict[str, str]] = {}
    exec(data, values)  # noqa: S102
    found = values["build_time_vars"]
    assert found["prefix"] == "/nonexistent"
    assert found["LIBDIR"] == "/nonexistent/lib"
    assert found["LLVM_PROFDATA"] == "/nonexistent/llvm/bin/llvm-profdata"
    assert found["CFLAGS"] == (
        "-fPIC -I/nonexistent/deps/include -ffile-prefix-map=/nonexistent/x=."
    )
    assert found["LDFLAGS"] == "-L/nonexistent/deps/lib"
    assert found["INSTALL"] == "/usr/bin/install -c"
    assert found["SRCDIRS"] == "Modules Modules/_blake2"
    assert holding(place.rglob("*"), [b"/install/", b"/build/", b"/tools/"]) == []


@pytest.mark.parametrize(
    "text",
    ["/usr/bin/install", "lib/build", "/usr/local/home", "/installed", "/buildings/x", "a/tmp"],
)
def test_other_paths_are_left_alone(text: str) -> None:
    assert runtime.BUILD_PATH.sub(runtime.NOWHERE, f"'{text}'") == f"'{text}'"


def test_wheels_are_not_touched_by_the_runtimes_rules() -> None:
    is_kept = keeps(runtime.rules_for(LINUX))
    site = "lib/python3.11/site-packages"
    assert is_kept(f"{site}/numpy/tests/__init__.py")
    assert is_kept(f"{site}/torch/include/x.h")
    assert not is_kept(f"{site}/pip/__init__.py")
    assert not is_kept("lib/python3.11/json/tests/x.py")


def test_every_rule_has_a_name_of_its_own_and_a_reason() -> None:
    assert len({rule.name for rule in runtime.RULES}) == len(runtime.RULES)
    assert all(rule.reason and rule.paths for rule in runtime.RULES)
    for target in (LINUX, MAC, WINDOWS):
        is_kept = keeps(runtime.rules_for(target))
        assert is_kept(target.executable.removeprefix("python/"))
        assert is_kept(f"{target.stdlib.removeprefix('python/')}/os.py")


def test_a_search_of_a_tree_names_file_and_needle(tmp_path: Path) -> None:
    library, text, empty = (tmp_path / name for name in ("lib.so", "b.py", "empty"))
    library.write_bytes(bytes(5000) + b"/home/me/project/x.c" + bytes(9))
    text.write_bytes(b"# /srv/stage and /home/me\n")
    empty.write_bytes(b"")
    assert holding([library, text, empty, tmp_path], [b"/home/me", b"/srv/stage", b"/absent"]) == [
        (library, b"/home/me"),
        (text, b"/home/me"),
        (text, b"/srv/stage"),
    ]
