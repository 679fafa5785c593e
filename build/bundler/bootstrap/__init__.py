"""From whatever Python starts the builder to the CPython 3.11 that runs it.

Everything here, and what the command line imports before its own environment runs it, works with
the syntax and the standard library of Python 3.9; a test holds it to that.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
from typing import Any

# What dataclass() knows from 3.10 on.
_LATER = ("slots", "kw_only")


def prepare_older_python() -> None:
    """Let Python 3.9 and 3.10 import the modules that declare the command line.

    `dataclass` then ignores what it does not know, and `import tomllib` gives an empty module:
    those modules are written for 3.11 and do no more than declare things when they are imported.
    What they check beyond the command line's form, the builder's own Python checks.
    """
    known = dataclasses.dataclass

    @functools.wraps(known)
    def dataclass(cls: Any = None, **options: Any) -> Any:  # noqa: ANN401 - as it is
        return known(cls, **{name: on for name, on in options.items() if name not in _LATER})

    replaced: Any = dataclasses
    replaced.dataclass = dataclass
    sys.modules.setdefault("tomllib", types.ModuleType("tomllib"))
