"""Archives as python-build-standalone lays them out for CPython 3.11: its names, small files.

The names, links, modes and imports were read from that project's sources (cpython-unix/
build-cpython.sh and extension-modules.yml, cpython-windows/build.py, src/release.rs and
validation.rs) and from CPython's (Makefile.pre.in, PC/layout, PCbuild). They are those of the
flavour install_only_stripped. Of a folder that no bundle takes anything from (headers, Tcl and Tk,
the terminal database, pip, setuptools) only some files are listed: the awkward ones among them.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.digests import Artifact, Digest
from bundler.locks.runtime import FLAVOUR, RuntimeSpec, archive_name
from tests.support.tinybinaries import elf, macho, pe
from tests.support.tinytar import Entry, write_tar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bundler.targets import Target

VERSION = "3.11.17"
TAG = "20261021"
STDLIB = Path(__file__).parent / "stdlib.txt"
# What a library that is linked in leaves in a file's data.
BERKELEY_DB = b"Berkeley DB 6.0.19: (August  8, 2013)\0Sleepycat Software: Berkeley DB\0"
# On Unix nearly every module is inside the program; these are files, for a reason each.
SHARED_MODULES = ("_crypt", "_dbm", "_tkinter")
SYSTEM_OF_LINUX = ("libpthread.so.0", "libdl.so.2", "libutil.so.1", "libm.so.6", "librt.so.1")
SYSTEM_OF_MAC = (
    "/usr/lib/libSystem.B.dylib",
    "/usr/lib/libz.1.dylib",
    "/usr/lib/libedit.3.dylib",
    "/usr/lib/libncurses.5.4.dylib",
    "/usr/lib/libpanel.5.4.dylib",
    "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
    "/System/Library/Frameworks/SystemConfiguration.framework/Versions/A/SystemConfiguration",
)
ARCHITECTURES = {  # the names that CPython gives a platform's own files
    "linux-x64": "x86_64-linux-gnu",
    "linux-arm64": "aarch64-linux-gnu",
    "mac-arm64": "darwin",
}
SCRIPTS = ("2to3-3.11", "idle3.11", "pip", "pip3", "pip3.11", "pydoc3.11", "python3.11-config")
SCRIPT_LINKS = {
    "2to3": "2to3-3.11",
    "idle3": "idle3.11",
    "pydoc3": "pydoc3.11",
    "python": "python3.11",
    "python3": "python3.11",
    "python3-config": "python3.11-config",
}
SCRIPT = b"""#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python3.11" "$0" "$@"
' '''
"""
CONFIG = (
    *("Makefile", "Setup", "Setup.bootstrap", "Setup.local", "Setup.stdlib", "config.c"),
    *("config.c.in", "install-sh", "makesetup", "python-config.py", "python.o"),
)
HEADERS = ("Python.h", "pyconfig.h", "cpython/abstract.h", "internal/pycore_abstract.h")
PACKAGES = (  # below site-packages
    "README.txt",
    "_distutils_hack/__init__.py",
    "_distutils_hack/override.py",
    "distutils-precedence.pth",
    "pip-26.2.1.dist-info/METADATA",
    "pip-26.2.1.dist-info/licenses/LICENSE.txt",
    "pip/__init__.py",
    "pip/__main__.py",
    "pip/_vendor/distlib/w64.exe",
    "setuptools-82.0.1.dist-info/RECORD",
    "setuptools/__init__.py",
    "setuptools/_vendor/wheel/__init__.py",
    "setuptools/cli-arm64.exe",
)
TCL = (  # below lib, beside the libraries
    *("itcl4.3.8/itcl.tcl", "itcl4.3.8/libitclstub.a", "itcl4.3.8/pkgIndex.tcl"),
    *(
        "tcl9/9.0/http-2.10.1.tm",
        "tcl9.0/init.tcl",
        "tcl9.0/tzdata/GMT+0",
        "tcl9.0/encoding/gb.enc",
    ),
    *("thread3.0.6/pkgIndex.tcl", "tk9.0/tk.tcl", "tk9.0/ttk/ttk.tcl"),
)
PKGCONFIG = ("python-3.11-embed.pc", "python-3.11.pc")
TERMINALS = ("2/2621A", "2/2621a", "E/Eterm", "L/LFT-PC850", "l/lft-pc850", "x/xterm")
TERMINAL_LINKS = {"e/eterm": "../E/Eterm", "E/Eterm-color": "Eterm"}
# On Windows each module is a file: what it imports beside python311.dll and the C runtime.
MODULES_OF_WINDOWS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("_asyncio", "_bz2", "_decimal", "_elementtree", "_lzma", "_queue"), ()),
    **dict.fromkeys(("_zoneinfo", "pyexpat", "unicodedata"), ()),
    "_ctypes": ("libffi-8.dll", "ole32.dll", "OLEAUT32.dll"),
    "_hashlib": ("libcrypto-3-x64.dll",),
    "_msi": ("Cabinet.dll", "msi.dll", "RPCRT4.dll"),
    "_multiprocessing": ("WS2_32.dll",),
    "_overlapped": ("WS2_32.dll",),
    "_socket": ("IPHLPAPI.DLL", "WS2_32.dll"),
    "_sqlite3": ("sqlite3.dll",),
    "_ssl": ("CRYPT32.dll", "libcrypto-3-x64.dll", "libssl-3-x64.dll", "WS2_32.dll"),
    "_tkinter": ("tcl86t.dll", "tk86t.dll"),
    "_uuid": ("RPCRT4.dll",),
    "select": ("WS2_32.dll",),
    "winsound": ("WINMM.dll",),
    # CPython's own tests, which the flavour is cut of on Unix alone.
    **dict.fromkeys(("_ctypes_test", "_testbuffer", "_testcapi", "_testconsole"), ()),
    **dict.fromkeys(("_testimportmultiple", "_testinternalcapi", "_testmultiphase"), ()),
    **dict.fromkeys(("xxlimited", "xxlimited_35"), ()),
}
LIBRARIES_OF_WINDOWS: dict[str, tuple[str, ...]] = {
    "libcrypto-3-x64.dll": ("ADVAPI32.dll", "CRYPT32.dll", "USER32.dll", "WS2_32.dll"),
    "libffi-8.dll": (),
    "libssl-3-x64.dll": ("libcrypto-3-x64.dll", "WS2_32.dll"),
    "sqlite3.dll": (),
    "tcl86t.dll": ("NETAPI32.dll", "USER32.dll", "USERENV.dll", "WS2_32.dll"),
    "tk86t.dll": ("COMDLG32.dll", "GDI32.dll", "IMM32.dll", "SHELL32.dll", "tcl86t.dll"),
}
TCL_OF_WINDOWS = (  # below tcl
    *("dde1.4/pkgIndex.tcl", "dde1.4/tcldde14.dll", "reg1.3/tclreg13.dll", "tcl8.6/init.tcl"),
    *("tcl8/8.6/http-2.9.5.tm", "tix8.4.3/tix84.dll", "tk8.6/tk.tcl"),
)
ONLY_IN_WINDOWS = (  # below Lib
    *("msilib/__init__.py", "msilib/schema.py", "msilib/sequence.py", "msilib/text.py"),
    *("venv/scripts/nt/activate.bat", "venv/scripts/nt/python.exe", "venv/scripts/nt/pythonw.exe"),
)
SYSCONFIGDATA = {
    "BINDIR": "/install/bin",
    "CC": "clang -pthread",
    "CFLAGS": "-fPIC -I/tools/deps/include -ffile-prefix-map=/build/x=.",
    "CONFINCLUDEDIR": "/install/include",
    "INSTALL": "/usr/bin/install -c",
    "LDFLAGS": "-L/tools/deps/lib",
    "LIBDIR": "/install/lib",
    "LLVM_PROFDATA": "/tools/llvm/bin/llvm-profdata",
    "SRCDIRS": "Modules Modules/_blake2",
    "abs_srcdir": "/build/Python-3.11.17/.",
    "prefix": "/install",
}
SOURCES = {"os.py": b"name = 'made up'\n", "json/__init__.py": b"def loads(text): ...\n"}
# What a short archive has of the standard library.
SHORT = (
    *("os.py", "crypt.py", "json/__init__.py", "unittest/__init__.py", "dbm/__init__.py"),
    *("dbm/ndbm.py", "ensurepip/__init__.py", "idlelib/idle.py", "tkinter/__init__.py"),
)


def entries(target: Target) -> list[Entry]:
    """Return what the archive for `target` holds, sorted by name, as the real one is.

    Its native files have no code; they are for the target, import what the real ones import, and
    need no newer system than the real ones.
    """
    found = _windows() if target.os == "win" else _unix(target)
    return sorted(found, key=lambda entry: entry.name)


def few_entries(target: Target) -> list[Entry]:
    """Return `entries` less most of the standard library: soon packed, soon compiled."""
    left_out = {f"{target.stdlib}/{path}" for path in set(stdlib()) - set(SHORT)}
    return [entry for entry in entries(target) if entry.name not in left_out]


@cache
def stdlib() -> tuple[str, ...]:
    """Return the paths of the standard library's files that every platform has."""
    text = "\n".join(line for line in _lines() if not line.startswith("#"))
    found = []
    for block in filter(None, text.replace("\n    ", " ").split("\n")):
        folder, _, names = block.partition(": ")
        for name in names.format(version=VERSION).split():
            file = name if "." in name else f"{name}.py"
            found.append(file if folder == "." else f"{folder}/{file}")
    return tuple(found)


def _lines() -> list[str]:
    return STDLIB.read_text(encoding="utf-8").splitlines()


def _files(folder: str, names: Iterable[str], data: bytes = b"", mode: int = 0o664) -> list[Entry]:
    return [Entry(name=f"python/{folder}/{name}", data=data, mode=mode) for name in names]


def _links(folder: str, links: dict[str, str]) -> list[Entry]:
    return [
        Entry(name=f"python/{folder}/{name}", type=tarfile.SYMTYPE, link=link, mode=0o777)
        for name, link in links.items()
    ]


def _library(folder: str) -> Iterator[Entry]:
    """Yield the standard library at `folder`; only two of its sources say anything."""
    for path in stdlib():
        yield from _files(folder, [path], SOURCES.get(path, b""))


def _packages(folder: str) -> list[Entry]:
    """Return pip and setuptools, which bring programs for Windows wherever they are."""
    return [
        entry
        for name in PACKAGES
        for entry in _files(folder, [name], b"MZ" if name.endswith(".exe") else b"")
    ]


def _unix(target: Target) -> list[Entry]:
    lib, platform = "lib/python3.11", ARCHITECTURES[target.name]
    system = "darwin" if target.os == "mac" else "linux"
    values = {**SYSCONFIGDATA, "MULTIARCH": platform}
    data = "# system configuration generated and used by the sysconfig module\n"
    data += f"build_time_vars = {json.dumps(values, indent=4, sort_keys=True)}"
    return [
        *_files("bin", SCRIPTS, SCRIPT, 0o775),
        *_links("bin", SCRIPT_LINKS),
        *_files("include/python3.11", HEADERS),
        *_files("lib", TCL),
        *_files("lib/pkgconfig", PKGCONFIG, b"prefix=${pcfiledir}/../..\n"),
        *_links("lib/pkgconfig", {"python3.pc": "python-3.11.pc"}),
        *_links("lib/pkgconfig", {"python3-embed.pc": "python-3.11-embed.pc"}),
        *_library(lib),
        *_files(lib, ["LICENSE.txt"], b"PSF\n"),
        *_files(lib, [f"_sysconfigdata__{system}_{platform}.py"], data.encode()),
        *_files(f"{lib}/config-3.11-{platform}", CONFIG, b"prefix=/install\n"),
        # CPython complains at every start where the folder is missing.
        *_files(f"{lib}/lib-dynload", [".empty"]),
        *_packages(f"{lib}/site-packages"),
        *_files("share/man/man1", ["python3.11.1"], b".TH\n"),
        *_links("share/man/man1", {"python3.1": "python3.11.1"}),
        *(_natives_of_mac() if target.os == "mac" else _natives_of_linux(target)),
    ]


def _programs(files: dict[str, bytes]) -> list[Entry]:
    return [Entry(name=f"python/{path}", data=data, mode=0o775) for path, data in files.items()]


def _natives_of_linux(target: Target) -> list[Entry]:
    machine = target.name.rpartition("-")[2]
    made = partial(elf, versions={"libc.so.6": ["GLIBC_2.17"]}, machine=machine)
    own = made(needed=SYSTEM_OF_LINUX, soname="libtcl9.0.so")
    dynload, suffix = "lib/python3.11/lib-dynload", f"cpython-311-{ARCHITECTURES[target.name]}.so"
    natives = {
        "bin/python3.11": made(needed=SYSTEM_OF_LINUX, rpath="$ORIGIN/../lib", program=True),
        "lib/libpython3.11.so.1.0": made(needed=SYSTEM_OF_LINUX, soname="libpython3.11.so.1.0"),
        "lib/libpython3.so": elf(needed=["$ORIGIN/../lib/libpython3.11.so.1.0"], machine=machine),
        "lib/libtcl9.0.so": own,
        "lib/libtcl9tk9.0.so": own,
        "lib/itcl4.3.8/libtcl9itcl4.3.8.so": own,
        "lib/thread3.0.6/libtcl9thread3.0.6.so": own,
        f"{dynload}/_crypt.{suffix}": made(needed=["libcrypt.so.1"]),
        f"{dynload}/_dbm.{suffix}": made() + BERKELEY_DB,
        f"{dynload}/_tkinter.{suffix}": elf(
            needed=["libtcl9.0.so", "libtcl9tk9.0.so"], machine=machine
        ),
    }
    return [
        *_programs(natives),
        *_links("lib", {"libpython3.11.so": "libpython3.11.so.1.0"}),
        # ncurses has terminals whose names differ in case alone, and others by two names.
        *_files("share/terminfo", TERMINALS, b"\x1a\x01"),
        *_links("share/terminfo", TERMINAL_LINKS),
    ]


def _natives_of_mac() -> list[Entry]:
    system, tk = SYSTEM_OF_MAC[:1], ("@rpath/libtcl9.0.dylib", "@rpath/libtcl9tk9.0.dylib")
    natives = {
        "bin/python3.11": macho(
            needed=SYSTEM_OF_MAC, rpaths=["@executable_path/../lib"], program=True
        ),
        "lib/itcl4.3.8/libtcl9itcl4.3.8.dylib": macho(needed=system),
        "lib/thread3.0.6/libtcl9thread3.0.6.dylib": macho(needed=system),
    }
    for name in ("libpython3.11.dylib", "libtcl9.0.dylib", "libtcl9tk9.0.dylib"):
        imports = SYSTEM_OF_MAC if "python" in name else system
        natives[f"lib/{name}"] = macho(install_name=f"@rpath/{name}", needed=imports)
    for name in SHARED_MODULES:
        needed = (*tk, *system) if name == "_tkinter" else system
        module = f"lib/python3.11/lib-dynload/{name}.cpython-311-darwin.so"
        natives[module] = macho(needed=needed, rpaths=["@loader_path/../.."])
    return _programs(natives)


def _windows() -> list[Entry]:
    """Return what a Windows archive holds: no links, pip without its programs, tests' modules."""
    core = ("VERSION.dll", "WS2_32.dll", "api-ms-win-core-path-l1-1-0.dll", "bcrypt.dll")
    natives = {
        **{f"DLLs/{name}.pyd": _pe(*own) for name, own in MODULES_OF_WINDOWS.items()},
        **{f"DLLs/{name}": _pe(*own) for name, own in LIBRARIES_OF_WINDOWS.items()},
        **{f"tcl/{name}": _pe() for name in TCL_OF_WINDOWS if name.endswith(".dll")},
        "python.exe": _pe("python311.dll", program=True),
        "python3.dll": _pe(),
        "python311.dll": _pe(*core, "VCRUNTIME140_1.dll"),
        "pythonw.exe": _pe("python311.dll", program=True),
        "vcruntime140.dll": _vcruntime(),
        "vcruntime140_1.dll": _vcruntime("VCRUNTIME140.dll"),
        "vcruntime140_threads.dll": _vcruntime(),
        "Lib/venv/scripts/nt/python.exe": _pe(program=True),
        "Lib/venv/scripts/nt/pythonw.exe": _pe(program=True),
    }
    plain = [
        *_library("Lib"),
        *_files("Lib", ONLY_IN_WINDOWS),
        *_packages("Lib/site-packages"),
        *_files("Scripts", [".empty"]),
        *_files("include", HEADERS),
        *_files("libs", ["python3.lib", "python311.lib"], b"!<arch>"),
        *_files("tcl", TCL_OF_WINDOWS),
        Entry(name="python/LICENSE.txt", data=b"PSF\n"),
    ]
    listed = [
        replace(entry, mode=0o666)
        for entry in plain
        # lib2to3's grammars are pickled on Unix alone.
        if entry.name.removeprefix("python/") not in natives and not entry.name.endswith(".pickle")
    ]
    return [
        *listed,
        *(
            Entry(name=f"python/{name}", data=data, mode=0o777 if name.endswith(".exe") else 0o666)
            for name, data in natives.items()
        ),
    ]


def _pe(*needed: str, program: bool = False) -> bytes:
    """Return a file that imports `needed` and what every such file does."""
    every = ("KERNEL32.dll", "VCRUNTIME140.dll", "api-ms-win-crt-runtime-l1-1-0.dll")
    return pe(needed=[*needed, *every], toolset=(14, 44), program=program)


def _vcruntime(*needed: str) -> bytes:
    return pe(needed=[*needed, "KERNEL32.dll"], toolset=(14, 44), version=(14, 44))


def write_release(
    folder: Path,
    target: Target,
    source: str,
    *,
    version: str = VERSION,
    program: bytes | None = None,
    is_whole: bool = False,
) -> RuntimeSpec:
    """Write the archive for `target` into `folder`, named as a release names it; return its spec.

    The spec says that the release lies at `source`, as a lock would. `program` takes the place of
    the one that cannot run. An archive that `is_whole` has every name; else `few_entries`.
    """
    facts = {"version": version, "tag": TAG, "triple": target.triple, "flavour": FLAVOUR}
    name = archive_name(**facts)
    listed = [
        replace(entry, data=program) if program and entry.name == target.executable else entry
        for entry in (entries(target) if is_whole else few_entries(target))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    archive = write_tar(folder / name, listed)
    artifact = Artifact(name=name, digest=Digest.of_file(archive))
    return RuntimeSpec(artifact=artifact, url=f"{source}/{TAG}/{name}", **facts)
