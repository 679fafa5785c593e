"""Wheels become the same site-packages on every machine, or nothing at all."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bundler.assembly.wheel_installer import (
    InstalledWheel,
    install,
    is_licence,
    place_of,
    write_record,
)
from bundler.errors import DiskError, IntegrityError, PolicyError
from bundler.targets import TARGETS
from tests.support.tinywheel import record_line, tiny_wheel

LINUX = TARGETS["linux-x64"]
FULL = {
    "tag": "cp311-cp311-manylinux_2_28_x86_64",
    "modules": {"tiny/__init__.py": "VALUE = 1\n", "tiny/native.so": "ELF"},
    "script": "tiny = tiny:main",
}


def tree(root: Path) -> dict[str, bytes]:
    """Return the content of every file below `root`."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def put(wheel: Path, root: Path, **options: object) -> InstalledWheel:
    """Install `wheel` into the Linux bundle at `root`, and write its RECORD."""
    site = root / LINUX.site_packages
    installed = install(wheel, site, target=LINUX, **options)  # type: ignore[arg-type]
    write_record(site, installed.dist_info, installed.modes)
    return installed


def test_a_wheel_is_unpacked_with_a_sorted_record_and_our_name(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, **FULL)  # type: ignore[arg-type]
    installed = put(wheel, tmp_path / "b")
    site = tmp_path / "b" / LINUX.site_packages
    info = "tiny-1.0.dist-info"
    assert list(installed.modes) == [
        *(f"{info}/{name}" for name in ("INSTALLER", "METADATA", "WHEEL")),
        f"{info}/entry_points.txt",
        f"{info}/licenses/LICENSE",
        "tiny/__init__.py",
        "tiny/native.so",
    ]
    assert tree(site).keys() == {*installed.modes, f"{info}/RECORD"}
    assert installed.dist_info == info
    assert (site / info / "INSTALLER").read_text() == "sidecar\n"
    lines = (site / info / "RECORD").read_text().splitlines(keepends=True)
    assert lines == [
        f"{path},,\n" if path.endswith("RECORD") else record_line(path, (site / path).read_bytes())
        for path in sorted(tree(site))
    ]


def test_no_console_script_is_made_and_no_path_of_this_machine_is_kept(tmp_path: Path) -> None:
    wheel = tiny_wheel(
        tmp_path,
        script="tiny = tiny:main",
        data={"scripts/run": b"#!python\n", "data/bin/tool": b"#!/bin/sh\n", "headers/t.h": b""},
        extra={
            "tiny-1.0.dist-info/direct_url.json": b'{"url": "file:///home/me"}',
            "tiny-1.0.dist-info/REQUESTED": b"",
            "tiny/__pycache__/__init__.cpython-311.pyc": b"stale",
        },
    )
    put(wheel, tmp_path / "b")
    names = [path.rpartition("/")[2] for path in tree(tmp_path / "b")]
    assert sorted(names) == sorted(
        ["INSTALLER", "METADATA", "RECORD", "WHEEL", "entry_points.txt", "LICENSE", "__init__.py"]
    )
    assert not any(str(tmp_path).encode() in data for data in tree(tmp_path / "b").values())


def test_umask_zone_locale_and_the_order_of_members_change_nothing(tmp_path: Path) -> None:
    modules = {"tiny/b.py": "b = 1\n", "tiny/a.py": "a = 1\n", "tiny/c.so": "x"}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = tiny_wheel(tmp_path / "one", modules=modules, executable=frozenset({"tiny/c.so"}))
    second = tiny_wheel(
        tmp_path / "two",
        modules=dict(reversed(modules.items())),
        executable=frozenset({"tiny/c.so"}),
    )
    script = (
        "import os, sys; os.umask(0o077); from pathlib import Path\n"
        "from bundler.targets import TARGETS\n"
        "from bundler.assembly.wheel_installer import install, write_record\n"
        "site = Path(sys.argv[2])\n"
        "installed = install(Path(sys.argv[1]), site, target=TARGETS['linux-x64'])\n"
        "write_record(site, installed.dist_info, installed.modes)\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "TZ": "Pacific/Kiritimati"}
    environment |= {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    site = tmp_path / "other" / LINUX.site_packages
    subprocess.run([sys.executable, "-c", script, second, site], check=True, env=environment)
    put(first, tmp_path / "b")
    assert tree(tmp_path / "other") == tree(tmp_path / "b")


def test_modes_are_what_the_wheel_says_of_each_file(tmp_path: Path) -> None:
    wheel = tiny_wheel(
        tmp_path,
        modules={"tiny/run.sh": "", "tiny/plain.py": ""},
        data={"data/share/tool": b""},
        executable=frozenset({"tiny/run.sh", "tiny-1.0.data/data/share/tool"}),
    )
    modes = put(wheel, tmp_path / "b").modes
    up = "../" * LINUX.site_packages.count("/")
    programs = {path for path, mode in modes.items() if mode == 0o755}
    assert programs == {"tiny/run.sh", f"{up}share/tool"}
    assert {modes[path] for path in modes.keys() - programs} == {0o644}
    assert modes["tiny/plain.py"] == 0o644


def test_a_stored_file_is_read_under_the_wheels_own_name(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    stored = wheel.rename(tmp_path / ("5" * 64))
    assert put(stored, tmp_path / "b", filename=wheel.name).dist_info == "tiny-1.0.dist-info"
    with pytest.raises(IntegrityError):
        put(stored, tmp_path / "c")


@pytest.mark.parametrize("name", ["linux-x64", "win-x64"])
def test_data_files_go_below_python(tmp_path: Path, name: str) -> None:
    chosen = TARGETS[name]
    wheel = tiny_wheel(tmp_path, data={"data/share/note": b"hi", "platlib/more.py": b"x = 1\n"})
    site = tmp_path / "b" / chosen.site_packages
    installed = install(wheel, site, target=chosen)
    write_record(site, installed.dist_info, installed.modes)
    assert (tmp_path / "b/python/share/note").read_bytes() == b"hi"
    assert "more.py" in installed.modes
    up = "../" * chosen.site_packages.count("/")
    assert f"{up}share/note" in installed.modes
    record = (site / installed.dist_info / "RECORD").read_text()
    assert record_line(f"{up}share/note", b"hi") in record


@pytest.mark.parametrize("path", ["lib/python3.11/os.py", "LIB/python3.11/site-packages/e.pth"])
def test_data_files_may_not_enter_the_standard_library(tmp_path: Path, path: str) -> None:
    wheel = tiny_wheel(tmp_path, data={f"data/{path}": b"import evil\n"})
    with pytest.raises(PolicyError, match="standard library"):
        put(wheel, tmp_path / "b")
    assert not any(path.endswith(("os.py", "e.pth")) for path in tree(tmp_path / "b"))


@pytest.mark.parametrize(
    "options",
    [
        {"record": {"tiny/__init__.py": b"VALUE = 2\n"}},
        {"record": {"tiny/__init__.py": b"VALUE = 22\n"}},
        {"unlisted": frozenset({"tiny/__init__.py"})},
        {"extra": {"tiny-1.0.dist-info/RECORD.jws": b"signature"}},
    ],
    ids=["hash", "size", "unlisted", "signed"],
)
def test_a_file_that_record_does_not_know_exits_4(
    tmp_path: Path, options: dict[str, object]
) -> None:
    wheel = tiny_wheel(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="RECORD") as caught:
        put(wheel, tmp_path / "b")
    assert caught.value.exit_code == 4


def test_a_damaged_wheel_exits_4(tmp_path: Path) -> None:
    body = "".join(f"v{number} = {number * 7919 % 10_007}\n" for number in range(2000))
    wheel = tiny_wheel(tmp_path, modules={"tiny/__init__.py": body})
    data = bytearray(wheel.read_bytes())
    data[200:220] = bytes(20)
    wheel.write_bytes(data)
    with pytest.raises(IntegrityError):
        put(wheel, tmp_path / "b")
    wheel.write_bytes(b"PK no zip")
    with pytest.raises(IntegrityError, match="cannot be read"):
        put(wheel, tmp_path / "b")


@pytest.mark.parametrize("name", ["md5", "shake_128"])
def test_a_record_of_other_hashes_exits_7(tmp_path: Path, name: str) -> None:
    wheel = tiny_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as packed:
        files = {path: packed.read(path) for path in packed.namelist()}
    record = "tiny-1.0.dist-info/RECORD"
    files[record] = files[record].replace(b"sha256=", f"{name}=".encode())
    with zipfile.ZipFile(wheel, "w") as packed:
        for path, data in files.items():
            packed.writestr(path, data)
    with pytest.raises(PolicyError, match="not a wheel that can be installed"):
        put(wheel, tmp_path / "b")


@pytest.mark.parametrize(
    "options",
    [{"format_version": "2.0"}, {"extra": {"other-1.0.dist-info/METADATA": b""}}],
    ids=["future", "two-packages"],
)
def test_what_is_no_wheel_of_today_exits_7(tmp_path: Path, options: dict[str, object]) -> None:
    wheel = tiny_wheel(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="not a wheel that can be installed"):
        put(wheel, tmp_path / "b")
    assert tree(tmp_path / "b") == {}


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("tiny.pth", b"import os; os.system('x')\n"),
        ("tiny.pth", b"# comment\nimport\tevil\n"),
        ("tiny.pth", b"/opt/elsewhere\n"),
        ("tiny.pth", b"C:\\elsewhere\n"),
        ("tiny.pth", b"tiny_vendor\rimport evil\n"),
        ("tiny.pth", b"../../../../elsewhere\n"),
        ("tiny.pth", b"tiny_vendor\\..\\..\n"),
        ("sitecustomize.py", b"x = 1\n"),
        ("usercustomize/__init__.py", b"x = 1\n"),
        ("tiny-1.0.data/purelib/tiny.pth", b"import evil\n"),
    ],
)
def test_what_runs_at_every_start_exits_7(tmp_path: Path, path: str, data: bytes) -> None:
    wheel = tiny_wheel(tmp_path, extra={path: data})
    with pytest.raises(PolicyError, match="every start"):
        put(wheel, tmp_path / "b")
    assert not any("custom" in path or ".pth" in path for path in tree(tmp_path / "b"))


def test_a_path_file_that_only_names_a_folder_may_stay(tmp_path: Path) -> None:
    text = b"# as ../before\ntiny_vendor\n\ntiny..vendor/lib\n"
    wheel = tiny_wheel(tmp_path, extra={"tiny.pth": text, "tiny/in.pth": b"import x\n"})
    assert {"tiny.pth", "tiny/in.pth"} <= put(wheel, tmp_path / "b").modes.keys()


def test_a_startup_file_that_is_not_kept_needs_no_permission(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, extra={"tiny.pth": b"import evil\n"})
    installed = put(wheel, tmp_path / "b", keep=lambda path: not path.endswith(".pth"))
    assert ("tiny.pth", 12) in installed.left_out
    assert "tiny.pth" not in installed.modes


def test_what_is_not_kept_is_neither_written_nor_recorded(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, extra={"tiny/test/big.py": b"x = 1\n"})
    installed = put(wheel, tmp_path / "b", keep=lambda path: "/test/" not in path)
    assert ("tiny/test/big.py", 6) in installed.left_out
    site = tmp_path / "b" / LINUX.site_packages
    assert not (site / "tiny/test").exists()
    assert "test" not in (site / installed.dist_info / "RECORD").read_text()
    # The metadata is what says that the package is there at all.
    (tmp_path / "c").mkdir()
    assert "tiny-1.0.dist-info/METADATA" in put(wheel, tmp_path / "c", keep=lambda _: False).modes


def test_two_wheels_may_share_a_file_but_not_disagree_about_it(tmp_path: Path) -> None:
    shared = {"shared/__init__.py": b""}
    one = tiny_wheel(tmp_path, "one", extra=shared)
    two = tiny_wheel(tmp_path, "two", extra=shared)
    three = tiny_wheel(tmp_path, "three", extra={"shared/__init__.py": b"x = 1\n"})
    put(one, tmp_path / "b")
    assert "shared/__init__.py" in put(two, tmp_path / "b").modes
    with pytest.raises(PolicyError, match=r"three.*would overwrite shared/__init__"):
        put(three, tmp_path / "b")
    assert tree(tmp_path / "b")[f"{LINUX.site_packages}/shared/__init__.py"] == b""


def test_a_full_disk_exits_6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bundler.assembly.wheel_installer._copy", full)
    with pytest.raises(DiskError, match="disk is full"):
        put(tiny_wheel(tmp_path), tmp_path / "b")


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("a/LICENSE", True),
        ("a/LICENCE.txt", True),
        ("a/license-apache", True),
        ("a/NOTICE", True),
        ("a/licensing.txt", False),
        ("a/license.pyi", False),
        ("a/license_expression/data.txt", False),
        ("a-1.dist-info/licenses/anything", True),
    ],
)
def test_a_licence_is_known_by_its_place_or_its_name(path: str, is_one: bool) -> None:
    assert is_licence(path) is is_one


def test_licences_with_long_paths_are_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = f"tiny-1.0.dist-info/licenses/{'third_party/' * 10}LICENSE"
    vendored = f"tiny/{'vendor/' * 15}COPYING"
    code = f"tiny/{'code/' * 20}more.py"
    site = tmp_path / "b" / LINUX.site_packages
    wheel = tiny_wheel(
        tmp_path, extra={deep: b"a", code: b"", f"tiny-1.0.data/purelib/{vendored}": b"b"}
    )
    made: list[str] = []
    mkdir = Path.mkdir

    def noted(self: Path, *arguments: Any, **options: Any) -> None:
        made.append(self.as_posix())
        mkdir(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", noted)
    installed = put(wheel, tmp_path / "b", longest=100)
    assert [path for path in made if "third_party" in path or "vendor" in path] == []
    assert tree(site).keys() == {*installed.modes, f"{installed.dist_info}/RECORD"}
    assert not {deep, vendored} & installed.modes.keys()
    assert {code, "tiny-1.0.dist-info/licenses/LICENSE"} <= installed.modes.keys()


def test_record_follows_removed_and_stripped_files(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, extra={"tiny/lib.so": b"symbols", "tiny/test.py": b""})
    installed = put(wheel, tmp_path / "b")
    site = tmp_path / "b" / LINUX.site_packages
    (site / "tiny/test.py").unlink()
    (site / "tiny/lib.so").write_bytes(b"sym")
    write_record(site, installed.dist_info, installed.modes)
    record = (site / installed.dist_info / "RECORD").read_text()
    assert "tiny/test.py" not in record
    assert record_line("tiny/lib.so", b"sym") in record
    assert record.splitlines() == sorted(record.splitlines(), key=lambda line: line.split(",")[0])


@pytest.mark.parametrize(
    ("member", "place"),
    [
        ("feather/barb.py", "feather/barb.py"),
        ("single.py", "single.py"),
        ("a-1.data/purelib/a/b.py", "a/b.py"),
        ("a-1.data/platlib/a.so", "a.so"),
        ("a-1.data/data/share/a.txt", "../../../share/a.txt"),
        ("a-1.data/scripts/run", None),
        ("a-1.data/headers/a.h", None),
    ],
)
def test_a_member_goes_where_its_scheme_says(member: str, place: str | None) -> None:
    assert place_of(member, TARGETS["linux-x64"]) == place


def test_a_scheme_that_wheels_do_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="not a wheel that can be installed"):
        put(tiny_wheel(tmp_path, data={"other/a": b""}), tmp_path / "b")
