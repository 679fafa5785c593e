"""The host's CPython as a stand-in: what identifies it, what is copied, what is refused."""

from __future__ import annotations

import ast
import io
import json
import platform
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from bundler.assembly import host_python
from bundler.digests import Digest
from bundler.errors import IntegrityError, UnreachableError
from tests.support.tinybinaries import elf
from tests.support.tinydebian import python_tree

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.plan import HostRuntime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux relocates its Python")

SYSCONFIGDATA = """
# system configuration generated and used by the sysconfig module
build_time_vars = {'prefix': '/home/zoé/.pyenv/3.11.7',
 'LDFLAGS': '-L/home/zoé/.pyenv/3.11.7/lib -L/opt/ssl/lib -Wl,-rpath,/home/zoé/.pyenv/3.11.7/lib',
 'CFLAGS': '-I/usr/include -ffile-prefix-map=/tmp/python-build.1/Python=. -O2',
 'SHELL': '/bin/sh',
 'WASM_STDLIB': './home/zoé/.pyenv/3.11.7/lib/python3.11/os.py',
 'abs_builddir': '/tmp/python-build.1/Python',
 'srcdir': '../Modules/x.c $(srcdir)/Include',
 'Py_ENABLE_SHARED': 1}
"""


class FakeHost:
    """A shell script that answers as a CPython would, and the few files it claims as its own."""

    def __init__(self, root: Path) -> None:
        """Make a host below `root`, with something of every kind that is left out."""
        self.executable = root / "usr/bin/python3"
        self.stdlib = root / "usr/lib/python3.11"
        self.facts: dict[str, Any] = {
            "implementation": "cpython",
            "version": "3.11.9",
            "stdlib": "$root/lib/python3.11",
            "dynload": "$root/lib/python3.11/lib-dynload",
            "libraries": "$root/lib",
            "site_packages": ["site-packages"],
        }
        self.trial = (
            '["$root", "$root", ["$root/lib/python311.zip", "$root/lib/python3.11",'
            ' "$root/lib/python3.11/lib-dynload"], ["$root/lib/python3.11/site-packages"]]'
        )
        for name in ("os.py", "json/__init__.py", "lib-dynload/_json.cpython-311.so"):
            self.add(name)
        self.write()

    def add(self, name: str, text: str = "pass\n") -> Path:
        """Write a file of the host's standard library."""
        path = self.stdlib / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def write(self) -> None:
        """Write the interpreter: it answers the trial where asked for a prefix, else the facts."""
        self.executable.parent.mkdir(parents=True, exist_ok=True)
        self.executable.write_text(
            '#!/bin/sh\nroot=${0%/*/*}\ncase "$4" in\n'
            f"*exec_prefix*) cat <<END\n{self.trial}\nEND\n;;\n"
            f"*) cat <<END\n{json.dumps(self.facts)}\nEND\n;;\nesac\n",
            encoding="utf-8",
        )
        self.executable.chmod(0o755)

    def probe(self) -> HostRuntime:
        """Return what the product makes of this host."""
        return host_python.probe(self.executable)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path / "host")


def names(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir()}


def test_the_default_host_is_the_python_behind_the_virtual_environment() -> None:
    found = host_python.probe()
    assert found.version == platform.python_version()
    assert found.executable.is_relative_to(sys.base_prefix)
    assert not found.executable.is_symlink()


def test_probing_twice_gives_the_same_answer(host: FakeHost) -> None:
    assert host.probe() == host.probe()


def test_the_digest_follows_every_file_that_is_copied(host: FakeHost) -> None:
    seen = {host.probe().digest.sha256}
    host.add("json/decoder.py")
    seen.add(host.probe().digest.sha256)
    host.add("json/decoder.py", "raise\n")
    seen.add(host.probe().digest.sha256)
    host.add("lib-dynload/_json.cpython-311.so", "other")
    seen.add(host.probe().digest.sha256)
    host.facts["version"] = "3.11.10"
    host.write()
    seen.add(host.probe().digest.sha256)
    assert len(seen) == 5


def test_the_digest_does_not_depend_on_where_the_host_lies(tmp_path: Path) -> None:
    one, two = (FakeHost(tmp_path / place) for place in ("one", "two"))
    assert one.probe().digest == two.probe().digest


@pytest.mark.parametrize(
    "name",
    [
        "site-packages/wheel/__init__.py",
        "dist-packages/apt.py",
        "test/test_os.py",
        "unittest/test/test_case.py",
        "distutils/tests/test_cmd.py",
        "idlelib/idle.py",
        "tkinter/__init__.py",
        "turtledemo/clock.py",
        "ensurepip/__init__.py",
        "lib2to3/main.py",
        "config-3.11-x86_64-linux-gnu/Makefile",
        "__pycache__/os.cpython-311.pyc",
        "legacy.pyc",
        "EXTERNALLY-MANAGED",
        "sitecustomize.py",
        "lib-dynload/_tkinter.cpython-311-x86_64-linux-gnu.so",
        "lib-dynload/readline.cpython-311-x86_64-linux-gnu.so",
        "lib-dynload/_curses_panel.cpython-311-x86_64-linux-gnu.so",
        "lib-dynload/_testcapi.cpython-311-x86_64-linux-gnu.so",
        "lib-dynload/xxlimited_35.cpython-311-x86_64-linux-gnu.so",
    ],
)
def test_what_a_bundle_never_runs_is_neither_digested_nor_copied(
    host: FakeHost, tmp_path: Path, name: str
) -> None:
    before = host.probe()
    host.add(name)
    assert host.probe() == before
    host_python.copy(before, tmp_path / "python")
    assert not (tmp_path / "python/lib/python3.11" / name).exists()


def test_the_copy_has_the_bundles_layout_and_tells_of_every_file(
    host: FakeHost, tmp_path: Path
) -> None:
    told: list[str] = []
    host_python.copy(host.probe(), tmp_path / "python", on_file=told.append)
    assert names(tmp_path / "python") == {
        "bin/python3.11",
        "lib/python3.11/os.py",
        "lib/python3.11/json/__init__.py",
        "lib/python3.11/lib-dynload/_json.cpython-311.so",
    }
    assert sorted(told) == sorted(names(tmp_path / "python"))


def test_links_become_files_and_only_the_program_is_executable(
    host: FakeHost, tmp_path: Path
) -> None:
    (host.stdlib / "linked.py").symlink_to(host.add("os.py"))
    (host.stdlib / "json/__init__.py").chmod(0o755)
    copy = tmp_path / "stage/python"
    assert host_python.copy(host.probe(), copy) == {"bin/python3.11": 0o755}
    assert (copy / "lib/python3.11/linked.py").is_file()
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    found = {path.name for path in copy.rglob("*") if path.is_file() and path.stat().st_mode & 1}
    assert found == {"python3.11"}


def test_a_host_that_changed_after_the_plan_is_refused_with_code_4(
    host: FakeHost, tmp_path: Path
) -> None:
    planned = host.probe()
    host.add("os.py", "changed = True\n")
    with pytest.raises(IntegrityError, match="changed") as caught:
        host_python.copy(planned, tmp_path / "python")
    assert caught.value.exit_code == 4


def debian_root(folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(python_tree())) as tar:
        for member in tar:
            if member.isfile():
                tar.extract(member, folder)
    (zap,) = folder.glob("usr/lib/*/libzap.so.1.0")
    zap.rename(zap.with_suffix(""))
    return folder


def test_debians_packages_give_a_copy_for_another_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # patchelf wants sections, which files of a few bytes do not have.
    monkeypatch.setattr(host_python, "patchelf", lambda: "/bin/true")
    host = host_python.probe_root(debian_root(tmp_path / "root"), "3.11.2-6+deb12u6")
    assert (host.version, host.source) == ("3.11.2", "debian")
    modes = host_python.copy(host, tmp_path / "python")
    assert modes == {"bin/python3.11": 0o755}
    assert names(tmp_path / "python") == {
        "bin/python3.11",
        "lib/libzap.so.1",
        "lib/python3.11/LICENSE.txt",
        "lib/python3.11/lib-dynload/_zap.cpython-311-aarch64-linux-gnu.so",
        "lib/python3.11/os.py",
        "lib/python3.11/sitecustomize.py",
    }
    hook = (tmp_path / "python/lib/python3.11/sitecustomize.py").read_bytes()
    assert hook == host_python.SITE_PACKAGES_HOOK


def test_debians_packages_are_identified_by_their_content(tmp_path: Path) -> None:
    one, two = (debian_root(tmp_path / name) for name in ("one", "two"))
    version = "3.11.2-6"
    assert (
        host_python.probe_root(one, version).digest == host_python.probe_root(two, version).digest
    )
    (two / "usr/lib/python3.11/os.py").write_text("name = 'other'\n")
    assert (
        host_python.probe_root(one, version).digest != host_python.probe_root(two, version).digest
    )


def test_a_library_for_this_processor_serves_no_other(tmp_path: Path) -> None:
    root = debian_root(tmp_path)
    (library,) = root.glob("usr/lib/*/libzap.so.1")
    library.write_bytes(elf(machine="x64"))
    with pytest.raises(UnreachableError) as caught:
        host_python.probe_root(root, "3.11.2-6")
    assert "needs libzap.so.1, which is not to be found" in caught.value.why


def test_another_python_of_debians_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        host_python.probe_root(debian_root(tmp_path), "3.13.5-2")
    assert caught.value.why == "Debian has 3.13.5-2, not CPython 3.11"


def test_another_system_is_told_to_get_the_standalone_runtime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnreachableError) as caught:
        host_python.probe()
    assert caught.value.exit_code == 5
    assert "darwin requires the standalone runtime" in caught.value.why


@pytest.mark.parametrize(
    ("key", "value"), [("version", "3.12.1"), ("version", "3.1.1"), ("implementation", "pypy")]
)
def test_a_python_of_another_kind_is_refused(host: FakeHost, key: str, value: str) -> None:
    host.facts[key] = value
    host.write()
    with pytest.raises(UnreachableError) as caught:
        host.probe()
    assert value in caught.value.why


def test_a_python_that_does_not_start_is_refused(host: FakeHost) -> None:
    host.executable.write_text("#!/bin/sh\necho broken >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(UnreachableError) as caught:
        host.probe()
    assert caught.value.why.endswith("ended with 1: broken")


def test_a_host_whose_files_may_not_be_read_is_refused_by_name(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", forbidden)
    with pytest.raises(UnreachableError) as caught:
        host.probe()
    assert caught.value.why.endswith("python3 cannot be read: Permission denied")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (('["$root", ', '["/usr", '), "outside itself"),
        (('"$root/lib/python3.11/lib-dynload"', '"/usr/lib/dist-packages"'), "outside itself"),
        (('lib-dynload"]', 'lib-dynload", "/usr/lib/extra"]'), "outside itself"),
        (("/site-packages", "/dist-packages"), "does not look for wheels"),
    ],
)
def test_a_copy_that_would_read_the_host_is_refused(
    host: FakeHost, tmp_path: Path, changed: tuple[str, str], why: str
) -> None:
    host.trial = host.trial.replace(*changed, 1)
    host.write()
    with pytest.raises(UnreachableError) as caught:
        host_python.copy(host.probe(), tmp_path / "python")
    assert why in caught.value.why


def test_a_host_whose_site_passes_over_site_packages_gets_a_hook(
    host: FakeHost, tmp_path: Path
) -> None:
    host.facts["site_packages"] = ["dist-packages", "dist-packages"]
    host.write()
    host_python.copy(host.probe(), tmp_path / "python")
    hook = tmp_path / "python/lib/python3.11/sitecustomize.py"
    added: list[str] = []
    sites = type("Site", (), {"addsitedir": staticmethod(added.append)})
    code = compile(hook.read_text(encoding="utf-8").replace("import site", ""), str(hook), "exec")
    exec(code, {"site": sites, "__file__": str(hook)})  # noqa: S102
    assert added == [str(hook.with_name("site-packages"))]


def test_debians_scheme_for_packages_becomes_cpythons(host: FakeHost, tmp_path: Path) -> None:
    host.add("sysconfig.py", "if True:\n    prefix_scheme = 'posix_local'\n")
    host_python.copy(host.probe(), tmp_path / "python")
    copied = (tmp_path / "python/lib/python3.11/sysconfig.py").read_text(encoding="utf-8")
    assert "prefix_scheme = 'posix_prefix'" in copied


def test_no_path_of_the_build_or_its_machine_is_left_in_sysconfigdata() -> None:
    text = host_python.neutral_sysconfigdata(SYSCONFIGDATA.encode()).decode()
    values = ast.literal_eval(text.partition(" = ")[2])
    assert values == {
        "prefix": "/install",
        "LDFLAGS": "-L/install/lib -L/build -Wl,-rpath,/install/lib",
        "CFLAGS": "-I/usr/include -ffile-prefix-map=/build=. -O2",
        "SHELL": "/bin/sh",
        "WASM_STDLIB": "./install/lib/python3.11/os.py",
        "abs_builddir": "/build",
        "srcdir": "../Modules/x.c $(srcdir)/Include",
        "Py_ENABLE_SHARED": 1,
    }


def test_a_neutral_sysconfigdata_stays_as_it_is() -> None:
    once = host_python.neutral_sysconfigdata(SYSCONFIGDATA.encode())
    assert host_python.neutral_sysconfigdata(once) == once


def test_a_prefix_that_every_system_has_stays() -> None:
    data = b"build_time_vars = {'prefix': '/usr', 'INCLUDEPY': '/usr/include/python3.11'}\n"
    assert b"'/usr/include/python3.11'" in host_python.neutral_sysconfigdata(data)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two copies of this very CPython, made one after the other in two places."""
    root = tmp_path_factory.mktemp("real")
    host = host_python.probe()
    places = (root / "first", root / "another place é" / "python")
    for place in places:
        host_python.copy(host, place)
    return places


def test_two_copies_of_one_host_are_the_same_bytes(copies: tuple[Path, Path]) -> None:
    first, second = copies
    assert names(first) == names(second)
    for name in names(first):
        assert Digest.of_file(first / name) == Digest.of_file(second / name), name


def test_the_real_copy_names_this_machine_nowhere_in_its_python_files(
    copies: tuple[Path, Path],
) -> None:
    if sys.base_prefix == "/usr":
        pytest.skip("this CPython's prefix is everybody's")
    prefix = sys.base_prefix.encode()
    for path in (copies[0] / "lib/python3.11").glob("_sysconfigdata*.py"):
        assert prefix not in path.read_bytes()


def test_every_program_of_the_real_copy_looks_only_inside_the_bundle(
    copies: tuple[Path, Path],
) -> None:
    programs = [p for p in copies[0].rglob("*") if p.is_file() and host_python.is_elf(p)]
    assert copies[0] / "bin/python3.11" in programs
    for path in programs:
        program = host_python.read_program(path)
        assert all(place.startswith("$ORIGIN") for place in program.rpaths)
        for name in (wanted.name for wanted in program.imports):
            assert host_python.is_glibc(name) or (copies[0] / "lib" / name).is_file()
