"""Control groups of this machine's, made for one test where it lets us."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from sidecar.process import cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = itertools.count()
# The file of a limit in version 1 of groups, and in version 2.
FILES = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}


@contextlib.contextmanager
def group(controller: Literal["memory", "pids"], limit: int) -> Iterator[tuple[list[str], Path]]:
    """Yield the words that run a command in a group of `limit` bytes, or threads and processes.

    The path is that of the file with the limit, which may be changed while it runs. Skips the test
    where no such group can be made.
    """
    first, second = FILES[controller]
    outer = _outermost(controller, first)
    own = outer / f"sidecar-test-{os.getpid()}-{next(_NUMBERS)}"
    is_second = (outer / "cgroup.controllers").exists()
    try:
        own.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        file = own / (second if is_second else first)
        try:
            file.write_text(str(limit), encoding="ascii")
        except OSError as error:
            pytest.skip(f"no control group can be limited here: {error.strerror}")
        yield ["/bin/sh", "-c", f'echo $$ > "{own}/cgroup.procs" && exec "$@"', "sh"], file
    finally:
        own.rmdir()


def _outermost(controller: str, first: str) -> Path:
    """Return the outermost group that `controller` limits, as far as this machine lets us see it.

    The root of version 1 has no limit of its own for pids.
    """
    for folder in reversed(list(cgroups.folders(Path("/"), controller))):
        passed_on = cgroups.text_of(folder / "cgroup.subtree_control").split()
        is_first = folder.name == controller and (folder / "cgroup.procs").exists()
        if controller in passed_on or (folder / first).exists() or is_first:
            return folder
    pytest.skip(f"this machine has no control groups of {controller}")
