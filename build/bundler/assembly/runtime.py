"""Making a standalone runtime fit a bundle: without what a service never runs, and without a past.

The removals are diet rules, as data, applied while the runtime's archive is read: what they name is
never written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bundler.profiles import DietRule

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.targets import Target

# Names no folder on any machine.
NOWHERE = "/nonexistent"
# Where python-build-standalone builds: its own folders, and the homes of its machines.
BUILD_PATH = re.compile(
    r"(?:(?<![\w.)}/-])|(?<=-[ILF]))"
    r"/(?:install|build|tools|Applications|Users|home|private|tmp|var/folders)"
    r"(?=[/\s\"':;,]|$)"
)


def _rule(
    name: str, reason: str, *paths: str, keep: tuple[str, ...] = (), targets: tuple[str, ...] = ()
) -> DietRule:
    return DietRule(
        name=name, package="python", paths=paths, keep=keep, targets=targets, reason=reason
    )


UNIX = ("linux", "mac")
WINDOWS = ("win",)
RULES: tuple[DietRule, ...] = (
    _rule(
        "scripts",
        "their first line names an interpreter, and links would become copies of it",
        "bin/**",
        keep=("bin/python3.11",),
        targets=UNIX,
    ),
    _rule(
        "scripts-windows",
        "launchers of pip and idle; the bundle starts python.exe itself",
        "Scripts/**",
        targets=WINDOWS,
    ),
    _rule(
        "pip",
        "nothing is installed into a bundle",
        *("**/site-packages/pip/**", "**/site-packages/pip-*/**"),
        *("**/site-packages/setuptools/**", "**/site-packages/setuptools-*/**"),
        *("**/site-packages/pkg_resources/**", "**/site-packages/_distutils_hack/**"),
        *("**/site-packages/distutils-precedence.pth", "**/site-packages/README.txt"),
        *("lib/python3.11/ensurepip/**", "Lib/ensurepip/**"),
        *("lib/python3.11/venv/**", "Lib/venv/**"),
    ),
    _rule(
        "tk",
        "a service has no windows",
        *("lib/tcl*/**", "lib/tk*/**", "lib/itcl*/**", "lib/thread*/**", "lib/tdbc*/**"),
        *("lib/sqlite3*/**", "lib/libtcl*", "lib/libtk*", "tcl/**"),
        *("lib/python3.11/tkinter/**", "Lib/tkinter/**"),
        *("lib/python3.11/turtle.py", "Lib/turtle.py"),
        *("lib/python3.11/turtledemo/**", "Lib/turtledemo/**"),
        *("lib/python3.11/lib-dynload/_tkinter.*", "DLLs/_tkinter.*"),
        *("DLLs/tcl*.dll", "DLLs/tk*.dll", "DLLs/zlib1.dll"),
    ),
    _rule("idle", "an editor", "lib/python3.11/idlelib/**", "Lib/idlelib/**"),
    _rule("lib2to3", "for Python 2; deprecated", "lib/python3.11/lib2to3/**", "Lib/lib2to3/**"),
    _rule(
        "tests",
        "CPython's own tests",
        *("lib/python3.11/**/test/**", "Lib/**/test/**"),
        *("lib/python3.11/**/tests/**", "Lib/**/tests/**"),
        *("lib/python3.11/lib-dynload/_test*", "DLLs/_test*"),
        *("lib/python3.11/lib-dynload/_ctypes_test.*", "DLLs/_ctypes_test.*"),
        *("lib/python3.11/lib-dynload/_xxtestfuzz.*", "lib/python3.11/lib-dynload/xxlimited*"),
        "DLLs/xxlimited*",
        keep=("**/site-packages/**",),
    ),
    _rule(
        "dbm",
        "links Berkeley DB, whose licence demands the source of everything shipped with it; "
        "dbm.dumb needs no library",
        *("lib/python3.11/lib-dynload/_dbm.*", "lib/python3.11/dbm/ndbm.py", "Lib/dbm/ndbm.py"),
    ),
    _rule(
        "crypt",
        "needs libcrypt.so.1, which newer distributions do not install; deprecated",
        *("lib/python3.11/lib-dynload/_crypt.*", "lib/python3.11/crypt.py", "Lib/crypt.py"),
    ),
    _rule(
        "msi",
        "makes installers for Windows; imports msi.dll and Cabinet.dll",
        *("DLLs/_msi.pyd", "Lib/msilib/**"),
        targets=WINDOWS,
    ),
    _rule(
        "vcruntime-threads",
        "threads of C11, which nothing here imports",
        "vcruntime140_threads.dll",
        targets=WINDOWS,
    ),
    _rule(
        "development",
        "for compiling against CPython; holds the paths of the machine that built it",
        *("include/**", "libs/**", "lib/pkgconfig/**", "lib/python3.11/config-*/**"),
        *("**/*.a", "lib/python3.11/lib-dynload/*.lib", "DLLs/*.lib", "**/*.pdb"),
        keep=("**/site-packages/**",),
    ),
    _rule(
        "share",
        "manual pages, and a terminal database with names that differ in case alone",
        "share/**",
    ),
    _rule(
        "libpython",
        "for programs that embed CPython; bin/python3.11 has all of it inside, nothing else loads "
        "it, and the audit refuses a file that would",
        *("lib/libpython3.so", "lib/libpython3.11.so", "lib/libpython3.11.so.1.0"),
        "lib/libpython3.11.dylib",
        targets=UNIX,
    ),
    _rule("bytecode", "the builder compiles its own", "**/__pycache__/**"),
)


def rules_for(target: Target) -> tuple[DietRule, ...]:
    """Return the rules that speak of `target`."""
    return tuple(rule for rule in RULES if not rule.targets or target.os in rule.targets)


def neutralise(root: Path) -> None:
    """Take the paths it was built at out of a standalone runtime's _sysconfigdata, below `root`."""
    for file in root.rglob("_sysconfigdata*.py"):
        file.write_bytes(BUILD_PATH.sub(NOWHERE, file.read_bytes().decode()).encode())
