"""A standalone runtime loses what a service never runs, and every trace of where it was built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.errors import PolicyError, UsageError
from bundler.targets import TARGETS
from bundler.tree import archives, relocate
from tests.support.standalone import unix_archive, unix_entries, windows_archive

if TYPE_CHECKING:
    from pathlib import Path

LINUX, MAC, WINDOWS = TARGETS["linux-x64"], TARGETS["mac-arm64"], TARGETS["win-x64"]
UNIX_KEPT = {
    "bin/python3.11",
    "lib/libpython3.11.so.1.0",
    "lib/python3.11/_sysconfigdata__linux_x86_64-linux-gnu.py",
    "lib/python3.11/json/__init__.py",
    "lib/python3.11/lib-dynload/_ssl.so",
    "lib/python3.11/os.py",
    "lib/python3.11/unittest/__init__.py",
}
WINDOWS_KEPT = {
    "DLLs/_ssl.pyd",
    "LICENSE.txt",
    "Lib/os.py",
    "python.exe",
    "python3.dll",
    "python311.dll",
    "pythonw.exe",
    "vcruntime140.dll",
    "vcruntime140_1.dll",
}


def files(root: Path) -> set[str]:
    """Return the paths of the files below `root`."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_unix_runtime_keeps_what_it_needs(tmp_path: Path) -> None:
    archives.extract(unix_archive(tmp_path), tmp_path / "python", keep=relocate.keeps(LINUX))
    assert files(tmp_path / "python") == UNIX_KEPT
    changed = relocate.neutralise(tmp_path / "python", LINUX)
    assert changed == ["lib/python3.11/_sysconfigdata__linux_x86_64-linux-gnu.py"]
    assert files(tmp_path / "python") == UNIX_KEPT


def test_a_windows_runtime_keeps_what_it_needs(tmp_path: Path) -> None:
    archives.extract(windows_archive(tmp_path), tmp_path / "python", keep=relocate.keeps(WINDOWS))
    assert files(tmp_path / "python") == WINDOWS_KEPT
    assert relocate.neutralise(tmp_path / "python", WINDOWS) == []


def test_a_tree_that_already_stands_is_cut_to_the_same_files(tmp_path: Path) -> None:
    root = tmp_path / "python"
    for entry in unix_entries():
        path = tmp_path / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.link and entry.name.startswith("python/bin"):
            path.symlink_to(entry.link)
        else:
            path.write_bytes(entry.data)
    changed = relocate.neutralise(root, LINUX)
    assert files(root) == UNIX_KEPT
    assert "bin/python" in changed
    assert "lib/tcl8.6/init.tcl" in changed
    assert changed == sorted(changed)
    assert not [path for path in root.rglob("*") if path.is_dir() and not any(path.iterdir())]
    assert relocate.neutralise(root, LINUX) == []


def test_terminal_names_that_differ_in_case_are_why_share_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="terminfo"):
        archives.extract(unix_archive(tmp_path), tmp_path / "python")


def test_build_paths_become_a_folder_that_is_nowhere(tmp_path: Path) -> None:
    archives.extract(unix_archive(tmp_path), tmp_path / "python", keep=relocate.keeps(LINUX))
    relocate.neutralise(tmp_path / "python", LINUX)
    data = next((tmp_path / "python").rglob("_sysconfigdata*")).read_text()
    values: dict[str, dict[str, str]] = {}
    exec(data, values)  # noqa: S102
    found = values["build_time_vars"]
    assert found["prefix"] == "/nonexistent"
    assert found["LIBDIR"] == "/nonexistent/lib"
    assert found["CC"] == "/nonexistent/llvm/bin/clang -pthread"
    assert found["CFLAGS"] == (
        "-fPIC -I/nonexistent/deps/include -ffile-prefix-map=/nonexistent/x=."
    )
    assert found["LDFLAGS"] == "-L/nonexistent/deps/lib"
    assert found["INSTALL"] == "/usr/bin/install -c"
    assert found["SRCDIRS"] == "Modules Modules/_blake2"
    assert relocate.scan(tmp_path / "python", [b"/install/", b"/build/", b"/tools/"]) == []


@pytest.mark.parametrize(
    "text",
    ["/usr/bin/install", "lib/build", "/usr/local/home", "/installed", "/buildings/x", "a/tmp"],
)
def test_other_paths_are_left_alone(text: str) -> None:
    assert relocate.BUILD_PATH.sub(relocate.NOWHERE, f"'{text}'") == f"'{text}'"


def test_wheels_are_not_touched_by_the_runtimes_rules() -> None:
    keeps = relocate.keeps(LINUX)
    site = "lib/python3.11/site-packages"
    assert keeps(f"{site}/numpy/tests/__init__.py")
    assert keeps(f"{site}/torch/include/x.h")
    assert not keeps(f"{site}/pip/__init__.py")
    assert not keeps("lib/python3.11/json/tests/x.py")


def test_every_rule_has_a_name_of_its_own_and_a_reason() -> None:
    assert len({rule.name for rule in relocate.RULES}) == len(relocate.RULES)
    assert all(rule.reason and rule.paths for rule in relocate.RULES)
    for target in (LINUX, MAC, WINDOWS):
        keeps = relocate.keeps(target)
        assert keeps(target.executable.removeprefix("python/"))
        assert keeps(f"{target.stdlib.removeprefix('python/')}/os.py")


def test_the_scan_names_file_and_needle(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/lib.so").write_bytes(bytes(5000) + b"/home/me/project/x.c" + bytes(9))
    (tmp_path / "b.py").write_bytes(b"# /srv/stage and /home/me\n")
    (tmp_path / "empty").write_bytes(b"")
    assert relocate.scan(tmp_path, [b"/home/me", b"/srv/stage", b"/absent"]) == [
        ("a/lib.so", b"/home/me"),
        ("b.py", b"/home/me"),
        ("b.py", b"/srv/stage"),
    ]


def test_a_needle_found_by_chance_exits_2(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too short"):
        relocate.scan(tmp_path, [b"/w"])
