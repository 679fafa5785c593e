"""Control groups of this machine's, made for one test where it lets us."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecar.process import cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = itertools.count()


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[list[str]]:
    """Yield the words that run a command in a group of `limit` bytes of memory.

    Skips the test where no such group can be made.
    """
    outer = _outermost()
    own = outer / f"sidecar-test-{os.getpid()}-{next(_NUMBERS)}"
    is_second = (outer / "cgroup.controllers").exists()
    try:
        own.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        name = "memory.max" if is_second else "memory.limit_in_bytes"
        try:
            (own / name).write_text(str(limit), encoding="ascii")
        except OSError as error:
            pytest.skip(f"no control group can be limited here: {error.strerror}")
        yield ["/bin/sh", "-c", f'echo $$ > "{own}/cgroup.procs" && exec "$@"', "sh"]
    finally:
        own.rmdir()


def _outermost() -> Path:
    """Return the outermost group that limits memory, as far as this machine lets us see it."""
    for folder in reversed(list(cgroups.folders(Path("/"), "memory"))):
        passed_on = cgroups.text_of(folder / "cgroup.subtree_control").split()
        if "memory" in passed_on or (folder / "memory.limit_in_bytes").exists():
            return folder
    pytest.skip("this machine has no control groups of memory")
