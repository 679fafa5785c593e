"""Lets Python 3.9 and 3.10 read the command line: they import the modules that declare it.

Those modules are written for 3.11 and do no more than declare things when they are imported. What
they check beyond the command line's form, the builder's own Python checks.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
from typing import Any

# What dataclass() knows from 3.10 on.
_LATER = ("slots", "kw_only")


def prepare() -> None:
    """Make `dataclass` ignore what it does not know, and `import tomllib` give an empty module."""
    known = dataclasses.dataclass

    @functools.wraps(known)
    def dataclass(cls: Any = None, **options: Any) -> Any:  # noqa: ANN401 - as it is
        return known(cls, **{name: on for name, on in options.items() if name not in _LATER})

    replaced: Any = dataclasses
    replaced.dataclass = dataclass
    sys.modules.setdefault("tomllib", types.ModuleType("tomllib"))
