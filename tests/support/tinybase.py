"""A root file system in a few bytes, as the base of an image: what is looked for, no program."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from tests.support.tinybinaries import elf
from tests.support.tinytar import Entry, write_tar

if TYPE_CHECKING:
    from pathlib import Path

LIBRARIES = "./lib/x86_64-linux-gnu"


def libc(newest: str = "2.36", machine: str = "x64") -> bytes:
    """Return what looks like a C library with symbols up to those of `newest`."""
    names = ("2.2.5", "2.9", newest)
    return elf(soname="libc.so.6", machine=machine) + b"".join(
        b"GLIBC_" + name.encode() + b"\0" for name in names
    )


def tiny_base(
    path: Path, *, newest: str = "2.36", machine: str = "x64", more: tuple[str, ...] = ()
) -> Path:
    """Write a base to `path`; `more` names other libraries in it."""
    entries = [Entry(name=f"{LIBRARIES}/libc-real.so", data=libc(newest, machine))]
    entries += [Entry(name=f"{LIBRARIES}/libc.so.6", type=tarfile.SYMTYPE, link="libc-real.so")]
    entries += [Entry(name=f"{LIBRARIES}/{name}", data=elf(soname=name)) for name in more]
    return write_tar(path, entries)
