"""Archives of a few bytes that are laid out as python-build-standalone's are, quirks included."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

from bundler.digests import Artifact, Digest
from bundler.locks.runtime import FLAVOUR, RuntimeSpec, archive_name
from tests.support.tinybinaries import elf, macho, pe
from tests.support.tinytar import Entry, write_tar

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.targets import Target

VERSION = "3.11.17"
TAG = "20261021"
MAC_NAMES = {
    "libpython3.11.so.1.0": "libpython3.11.dylib",
    "lib-dynload/_ssl.so": "lib-dynload/_ssl.cpython-311-darwin.so",
    "lib-dynload/_tkinter.so": "lib-dynload/_tkinter.cpython-311-darwin.so",
    "_sysconfigdata__linux_x86_64-linux-gnu": "_sysconfigdata__darwin_darwin",
    "config-3.11-x86_64-linux-gnu": "config-3.11-darwin",
}
SYSCONFIGDATA = """# system configuration generated and used by the sysconfig module
build_time_vars = {'BINDIR': '/install/bin',
 'CC': '/tools/llvm/bin/clang -pthread',
 'CFLAGS': '-fPIC -I/tools/deps/include -ffile-prefix-map=/build/x=.',
 'CONFINCLUDEDIR': '/install/include',
 'INSTALL': '/usr/bin/install -c',
 'LDFLAGS': '-L/tools/deps/lib',
 'LIBDIR': '/install/lib',
 'SRCDIRS': 'Modules Modules/_blake2',
 'abs_srcdir': '/build/Python-3.11.17/.',
 'prefix': '/install'}
"""
SHELL_SCRIPT = b"#!/bin/sh\n'''exec' \"$(dirname -- \"$0\")/python3.11\" \"$0\" \"$@\"\n' '''\n"


def unix_entries() -> list[Entry]:
    """Return what a Unix archive holds, in no particular order."""
    lib = "python/lib/python3.11"
    link, hard = tarfile.SYMTYPE, tarfile.LNKTYPE
    return [
        Entry(name="python/bin/python3.11", data=b"\x7fELF the runtime", mode=0o755),
        Entry(name="python/bin/python3", type=link, link="python3.11", mode=0o777),
        Entry(name="python/bin/python", type=link, link="python3", mode=0o777),
        Entry(name="python/bin/pip3", data=SHELL_SCRIPT, mode=0o755),
        Entry(name="python/bin/idle3.11", data=SHELL_SCRIPT, mode=0o755),
        Entry(name="python/include/python3.11/Python.h", data=b"/* */\n"),
        Entry(name="python/lib/libpython3.11.so.1.0", data=b"\x7fELF shared", mode=0o755),
        Entry(name="python/lib/libpython3.11.so", type=link, link="libpython3.11.so.1.0"),
        Entry(name="python/lib/pkgconfig/python3.pc", data=b"prefix=/install\n"),
        Entry(name="python/lib/tcl8.6/init.tcl", data=b"# tcl\n"),
        Entry(name="python/lib/itcl4.2.4/itcl.tcl", data=b"# itcl\n"),
        Entry(name="python/lib/tk8.6/tk.tcl", data=b"# tk\n"),
        Entry(name=f"{lib}/os.py", data=b"name = 'posix'\n", mode=0o664),
        Entry(name=f"{lib}/json/__init__.py", data=b"def loads(text): ...\n"),
        Entry(name=f"{lib}/json/tests/__init__.py", data=b""),
        Entry(name=f"{lib}/unittest/__init__.py", data=b""),
        Entry(name=f"{lib}/unittest/test/test_case.py", data=b""),
        Entry(name=f"{lib}/_sysconfigdata__linux_x86_64-linux-gnu.py", data=SYSCONFIGDATA.encode()),
        Entry(name=f"{lib}/config-3.11-x86_64-linux-gnu/Makefile", data=b"prefix=/install\n"),
        Entry(name=f"{lib}/ensurepip/__init__.py", data=b""),
        Entry(name=f"{lib}/idlelib/idle.py", data=b""),
        Entry(name=f"{lib}/lib2to3/pgen2/__init__.py", data=b""),
        Entry(name=f"{lib}/tkinter/__init__.py", data=b""),
        Entry(name=f"{lib}/turtledemo/clock.py", data=b""),
        Entry(name=f"{lib}/lib-dynload/_ssl.so", data=b"\x7fELF ssl", mode=0o755),
        Entry(name=f"{lib}/lib-dynload/_tkinter.so", data=b"\x7fELF tk", mode=0o755),
        Entry(name=f"{lib}/site-packages/README.txt", data=b"packages\n"),
        Entry(name=f"{lib}/site-packages/pip/__main__.py", data=b"import sys\n"),
        Entry(name=f"{lib}/site-packages/pip-26.2.dist-info/METADATA", data=b"Name: pip\n"),
        # ncurses knows two terminals whose names differ in case alone, and links second names.
        Entry(name="python/share/terminfo/E/Eterm", data=b"\x1a\x01E"),
        Entry(name="python/share/terminfo/e/eterm", data=b"\x1a\x01e"),
        Entry(
            name="python/share/terminfo/E/Eterm-color",
            type=hard,
            link="python/share/terminfo/E/Eterm",
        ),
        Entry(name="python/share/man/man1/python3.11.1", data=b".TH\n"),
        Entry(name="python/share/man/man1/python3.1", type=link, link="python3.11.1"),
    ]


def windows_entries() -> list[Entry]:
    """Return what a Windows archive holds: no links, pip without pip.exe, lower-case libs."""
    return [
        Entry(name="python/python.exe", data=b"MZ python", mode=0o755),
        Entry(name="python/pythonw.exe", data=b"MZ pythonw", mode=0o755),
        Entry(name="python/python3.dll", data=b"MZ stable", mode=0o755),
        Entry(name="python/python311.dll", data=b"MZ library", mode=0o755),
        Entry(name="python/vcruntime140.dll", data=b"MZ vc", mode=0o755),
        Entry(name="python/vcruntime140_1.dll", data=b"MZ vc1", mode=0o755),
        Entry(name="python/LICENSE.txt", data=b"PSF\n"),
        Entry(name="python/DLLs/_ssl.pyd", data=b"MZ ssl", mode=0o755),
        Entry(name="python/DLLs/_tkinter.pyd", data=b"MZ tk", mode=0o755),
        Entry(name="python/DLLs/tcl86t.dll", data=b"MZ tcl", mode=0o755),
        Entry(name="python/DLLs/tk86t.dll", data=b"MZ tk", mode=0o755),
        Entry(name="python/Lib/os.py", data=b"name = 'nt'\n"),
        Entry(name="python/Lib/idlelib/idle.py", data=b""),
        Entry(name="python/Lib/tkinter/__init__.py", data=b""),
        Entry(name="python/Lib/venv/scripts/nt/python.exe", data=b"MZ venv", mode=0o755),
        Entry(name="python/Lib/site-packages/pip/__main__.py", data=b"import sys\n"),
        Entry(name="python/Scripts/readme.txt", data=b""),
        Entry(name="python/include/Python.h", data=b"/* */\n"),
        Entry(name="python/libs/python311.lib", data=b"!<arch>"),
        Entry(name="python/tcl/tcl8.6/init.tcl", data=b"# tcl\n"),
    ]


def unix_archive(folder: Path, name: str = "cpython-3.11-linux.tar.gz") -> Path:
    """Write a Unix archive into `folder` and return its path."""
    return write_tar(folder / name, unix_entries())


def windows_archive(folder: Path, name: str = "cpython-3.11-windows.tar.gz") -> Path:
    """Write a Windows archive into `folder` and return its path."""
    return write_tar(folder / name, windows_entries())


def native_entries(target: Target) -> list[Entry]:
    """Return what the archive for `target` holds, its native files small but real, and a licence.

    They import what the real ones do of each other, and need no newer system than the real ones.
    """
    if target.os == "win":
        return [_with_pe(entry) for entry in windows_entries()]
    licence = Entry(name="python/lib/python3.11/LICENSE.txt", data=b"PSF\n")
    if target.os == "linux":
        return [*(_with_elf(entry) for entry in unix_entries()), licence]
    entries = [e for e in unix_entries() if not e.name.endswith("/libpython3.11.so")]
    return [*(_with_macho(entry) for entry in entries), licence]


def _with_elf(entry: Entry) -> Entry:
    if not entry.data.startswith(b"\x7fELF"):
        return entry
    versions = {"libc.so.6": ["GLIBC_2.17"]}
    data = elf(versions=versions, program=entry.name.endswith("/python3.11"))
    return replace(entry, data=data)


def _with_macho(entry: Entry) -> Entry:
    name = entry.name
    for linux, mac in MAC_NAMES.items():
        name = name.replace(linux, mac)
    if not entry.data.startswith(b"\x7fELF"):
        return replace(entry, name=name)
    system = "/usr/lib/libSystem.B.dylib"
    library = "libpython3.11.dylib"
    if name.endswith("/python3.11"):
        own = f"@executable_path/../lib/{library}"
        data = macho(needed=[own, system], program=True)
    else:
        install_name = f"@rpath/{library}" if name.endswith(library) else ""
        data = macho(install_name=install_name, needed=[system])
    return replace(entry, name=name, data=data)


def _with_pe(entry: Entry) -> Entry:
    if not entry.data.startswith(b"MZ"):
        return entry
    name = entry.name.rpartition("/")[2]
    needed = ["KERNEL32.dll"]
    if name.startswith("vcruntime140"):
        needed += ["VCRUNTIME140.dll"] if name == "vcruntime140_1.dll" else []
        return replace(entry, data=pe(needed=needed, toolset=(14, 44), version=(14, 44)))
    needed += ["VCRUNTIME140.dll", "api-ms-win-crt-runtime-l1-1-0.dll"]
    needed += [] if name == "python311.dll" else ["python311.dll"]
    data = pe(needed=needed, toolset=(14, 44), program=name.endswith(".exe"))
    return replace(entry, data=data)


def write_release(
    folder: Path,
    target: Target,
    source: str,
    *,
    version: str = VERSION,
    program: bytes | None = None,
) -> RuntimeSpec:
    """Write the archive for `target` into `folder`, named as a release names it; return its spec.

    The spec says that the release lies at `source`, as a lock would. `program` takes the place of
    the one that cannot run.
    """
    facts = {"version": version, "tag": TAG, "triple": target.triple, "flavour": FLAVOUR}
    name = archive_name(**facts)
    entries = [
        replace(entry, data=program) if program and entry.name == target.executable else entry
        for entry in native_entries(target)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    archive = write_tar(folder / name, entries)
    artifact = Artifact(name=name, digest=Digest.of_file(archive))
    return RuntimeSpec(artifact=artifact, url=f"{source}/{TAG}/{name}", **facts)
