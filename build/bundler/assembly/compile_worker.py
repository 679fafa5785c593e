"""The program that compiles Python files to bytecode inside the interpreter the bundle ships.

Standard library only, run by path with `-S -B`, a list of JSON in and one out. The same source
gives the same bytes in any process: see `bytecode`.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import sys
from pathlib import Path
from types import CodeType

UNCHECKED_HASH = (1).to_bytes(4, "little")
LATIN_1_CHARS = 256


def prepare() -> None:
    """Put every one-character string that CPython keeps for itself into one known state."""
    for ordinal in range(LATIN_1_CHARS):
        sys.intern(chr(ordinal))


def bytecode(source: bytes, name: str) -> bytes:
    """Return the .pyc of `source`: hash-based and unchecked (PEP 552), with `name` as its file.

    What was compiled before in the same process would show in two ways. marshal marks an object
    that has more than one owner, and strings are shared by the whole process: holding each once
    more while marshal runs marks them all. And a set whose strings the process knows already is
    copied, so that equal sets are one object or several: `merge_sets` makes them one.
    Raises SyntaxError, ValueError, RecursionError, MemoryError.
    """
    code = compile(source, sys.intern(name), "exec", dont_inherit=True, optimize=0)
    code = merge_sets(code, {})
    held: list[object] = []
    hold(code, held)
    header = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


def merge_sets(code: CodeType, known: dict[bytes, object]) -> CodeType:
    """Return `code` with equal constant sets made one object; it is a copy if it has any set."""
    constants: list[object] = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            constants.append(merge_sets(constant, known))
        elif isinstance(constant, frozenset):
            # Version 2 writes no references: the bytes are the value, with the types of its items.
            constants.append(known.setdefault(marshal.dumps(constant, 2), constant))
        else:
            constants.append(constant)
    copied = any(new is not old for new, old in zip(constants, code.co_consts, strict=True))
    if copied or any(isinstance(constant, frozenset) for constant in constants):
        return code.replace(co_consts=tuple(constants))
    return code


def hold(value: object, held: list[object]) -> None:
    """Append every string in `value` to `held`."""
    if isinstance(value, CodeType):
        held += (value.co_filename, value.co_name, value.co_qualname)
        for names in (value.co_names, value.co_varnames, value.co_cellvars, value.co_freevars):
            held += names
        for constant in value.co_consts:
            hold(constant, held)
    elif isinstance(value, str):
        held.append(value)
    elif isinstance(value, (tuple, frozenset)):
        for item in value:
            hold(item, held)


def compile_file(path: str, output: str, name: str) -> None:
    """Write the bytecode of the file `path` to `output`, unless it does not compile."""
    source = Path(path).read_bytes()
    try:
        data = bytecode(source, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    Path(output).parent.mkdir(exist_ok=True)
    Path(output).write_bytes(data)


def main() -> None:
    """Compile a list of [path, output, name]; answer with our version, and why it broke off."""
    prepare()
    failure = ""
    try:
        for job in json.load(sys.stdin):
            compile_file(*job)
    except OSError as error:
        failure = str(error)
    json.dump([sys.version_info[:3], failure], sys.stdout)


if __name__ == "__main__":
    main()
