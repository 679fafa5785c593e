"""Debian's packages of a few bytes, and a program in mmdebstrap's place that unpacks them."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from tests.support.tinybinaries import elf
from tests.support.tinytar import Entry, tar_bytes

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "3.11.2-6+deb12u6"
# Notes its words and the last file named in them, and says what lies beside it.
PROGRAM = """#!/bin/sh
here=${0%/*}
printf "%s\\n" "$@" >"$here/words"
for last; do :; done
[ -f "$last" ] && cat "$last" >"$here/sources"
echo "E: no such suite" >&2
cat "$here/tree.tar"
exit "$(cat "$here/code")"
"""


def archive(*members: tuple[str, bytes | str, int]) -> bytes:
    """Return a tar of names with bytes, or with text for where a link leads, and modes."""
    return tar_bytes(
        Entry(name=name, type=tarfile.SYMTYPE, link=content, mode=mode)
        if isinstance(content, str)
        else Entry(name=name, data=content, mode=mode)
        for name, content, mode in members
    )


def python_tree() -> bytes:
    """Return what mmdebstrap makes of a CPython for arm64, its native files real but empty."""
    listing = f"python3.11-minimal {VERSION} {'0' * 64}\nlibzap 1 {'1' * 64}\n"
    libc, zap = "libc.so.6", "libzap.so.1"
    stdlib, libraries = "./usr/lib/python3.11", "./usr/lib/aarch64-linux-gnu"
    module = f"{stdlib}/lib-dynload/_zap.cpython-311-aarch64-linux-gnu.so"
    return archive(
        ("./packages.txt", listing.encode(), 0o644),
        ("./usr/bin/python3.11", elf(needed=[libc], machine="arm64", program=True), 0o755),
        (f"{stdlib}/os.py", b"name = 'posix'\n", 0o644),
        (f"{stdlib}/sitecustomize.py", "/etc/python3.11/sitecustomize.py", 0o777),
        (module, elf(needed=[libc, zap], machine="arm64"), 0o644),
        (f"{libraries}/{zap}", f"{zap}.0", 0o777),
        (f"{libraries}/{zap}.0", elf(needed=[libc], machine="arm64"), 0o644),
        ("./usr/share/doc/python3.11-minimal/copyright", b"PSF\n", 0o644),
        ("./usr/share/doc/libzap/copyright", b"MIT\n", 0o644),
    )


def install(folder: Path, tree: bytes, *, code: int = 0) -> None:
    """Write a mmdebstrap into `folder` that gives `tree` and ends with `code`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mmdebstrap").write_text(PROGRAM, encoding="utf-8")
    (folder / "mmdebstrap").chmod(0o755)
    (folder / "tree.tar").write_bytes(tree)
    (folder / "code").write_text(str(code), encoding="utf-8")
