"""What in a model's folder could run code when the model is loaded.

Standard library only: the builder asks before it locks a model, the service before it loads one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOME = "sentence_transformers."
# These compute and nothing else. Other types may read files or run code of the repository.
TRUSTED = frozenset({"Transformer", "Pooling", "Normalize", "Dense"})
# Keys that make transformers fetch and run code (CVE-2026-4372 for the second).
CODE_KEYS = frozenset({"auto_map", "_attn_implementation_internal"})
# Formats that are unpickled, or may be, by one loader or another.
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".joblib")
CODE = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Danger:
    """A file of a model, and why the model is not to be loaded."""

    path: str
    why: str


def dangers(folder: Path) -> Iterator[Danger]:
    """Yield what in the model's folder could run code, in the order of paths.

    Only suffixes, JSON files and modules.json are looked at, so it can be asked before the weights
    are there. What is not JSON where it should be is a danger, too: it says nothing of the model.
    """
    for file in sorted(folder.rglob("*")):
        path, suffix = file.relative_to(folder).as_posix(), file.suffix.lower()
        if suffix in CODE:
            yield Danger(path=path, why="it is code")
        elif suffix in PICKLES:
            yield Danger(path=path, why="a pickle runs code when it is loaded")
        elif suffix == ".json" and file.is_file():
            why = _danger_of(file.read_bytes(), is_list_of_modules=path == "modules.json")
            if why:
                yield Danger(path=path, why=why)


def _danger_of(data: bytes, *, is_list_of_modules: bool) -> str:
    """Return why a JSON file is a danger, "" if it is none."""
    # To parse vocabularies, which are large, would cost a second; only a key that is spelled with
    # escapes cannot be told without.
    is_suspect = b"\\u00" in data or any(key.encode() in data for key in CODE_KEYS)
    if not is_suspect and not is_list_of_modules:
        return ""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return "it cannot be read"
    found = sorted(CODE_KEYS.intersection(_keys(value)))
    if found:
        return f"it loads code by {found[0]}"
    return _foreign(value) if is_list_of_modules else ""


def _keys(value: object) -> Iterator[str]:
    """Yield the keys of all objects in `value`; it was read, so it is not nested too deeply."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as found:
                yield from found
                waiting.extend(found.values())
            case list() as found:
                waiting.extend(found)
            case _:
                pass


def _foreign(modules: object) -> str:
    """Return why modules.json names a part that is not trusted, "" if it names none."""
    if not isinstance(modules, list):
        return "it is no list of modules"
    for module in modules:
        kind = module.get("type") if isinstance(module, dict) else None
        if not isinstance(kind, str):
            return "it has a module without a type"
        if not kind.startswith(HOME) or kind.rpartition(".")[2] not in TRUSTED:
            return f"it names {kind[:100]}; trusted are {', '.join(sorted(TRUSTED))}"
    return ""
