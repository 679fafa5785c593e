"""From whatever Python starts the builder to the CPython 3.11 that runs it.

Everything here, and what the command line imports before its own environment runs it, works with
the syntax and the standard library of Python 3.9; a test holds it to that.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import types
from typing import Any

# What dataclass() knows from 3.10 on.
_LATER = ("slots", "kw_only")
_HEADER = re.compile(r"\[([\w.-]+)\]")
# The one kind of value that is looked for: a string without escapes.
_STRING = re.compile(r'([\w-]+)\s*=\s*"([^"\\]*)"\s*(?:#.*)?')


def prepare_older_python() -> None:
    """Let Python 3.9 and 3.10 import the modules that declare the command line.

    `dataclass` then ignores what it does not know, and `import tomllib` gives a module that reads
    the strings of a file alone. Those modules are written for 3.11 and do no more than declare
    things when they are imported; what they check beyond the command line's form, the builder's own
    Python checks.
    """
    known = dataclasses.dataclass

    @functools.wraps(known)
    def dataclass(cls: Any = None, **options: Any) -> Any:  # noqa: ANN401 - as it is
        return known(cls, **{name: on for name, on in options.items() if name not in _LATER})

    replaced: Any = dataclasses
    replaced.dataclass = dataclass
    tomllib: Any = types.ModuleType("tomllib")
    tomllib.loads, tomllib.TOMLDecodeError = _strings, ValueError
    sys.modules.setdefault("tomllib", tomllib)


def _strings(text: str) -> dict[str, dict[str, str]]:
    """Return the lines `key = "value"` of a TOML document, by table."""
    tables: dict[str, dict[str, str]] = {}
    table: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        header, string = _HEADER.fullmatch(line), _STRING.fullmatch(line)
        if header:
            table = tables.setdefault(header[1], {})
        elif string:
            table[string[1]] = string[2]
    return tables
