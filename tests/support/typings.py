"""What a Node package exports, read from its declarations (types/*.d.ts, which tsc writes)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
EXPORT = re.compile(
    r"export (?:declare )?(type|class|const|function) (\w+)(.*?)"
    r"(?=^export |^import |^declare |\Z)",
    re.DOTALL | re.MULTILINE,
)
REEXPORT = re.compile(r"export \{ ([\w, ]+) \} from '\./(\w+)\.js'")
IMPORTED = re.compile(r"import\('\./(\w+)\.js'\)\.(\w+)")
OPENING, CLOSING = "{([<", "})]>"


def exported(folder: Path) -> Iterator[str]:
    """Yield a line for each member of what `folder`/index.d.ts exports.

    Types that those name, and that are not exported themselves, are among them.
    """
    modules = {
        path.name.partition(".")[0]: COMMENT.sub("", path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.d.ts"))
    }
    declared = {
        (module, name): (kind, " ".join(rest.split()))
        for module, text in modules.items()
        for kind, name, rest in EXPORT.findall(text)
    }
    waiting = [
        (module, name.strip())
        for names, module in REEXPORT.findall(modules["index"])
        for name in names.split(",")
    ]
    yield from (f"export {name}" for _, name in waiting)
    aliases = [(module, name) for module, name in declared if module == "index"]
    yield from (f"export type {name}" for _, name in aliases)
    waiting += aliases
    seen = set()
    while waiting:
        entry = waiting.pop()
        if entry in seen or entry not in declared:
            continue
        seen.add(entry)
        module, name = entry
        kind, rest = declared[entry]
        waiting += IMPORTED.findall(rest)
        waiting += [(module, word) for word in re.findall(r"\b[A-Z]\w+", IMPORTED.sub("", rest))]
        rest = IMPORTED.sub(r"\2", rest)
        if rest.rstrip(" ;") != f"= {name}":  # the same type under its own name
            yield from _members(kind, name, rest.strip())


def _members(kind: str, name: str, rest: str) -> Iterator[str]:
    """Yield a line for each member of a declaration, or choice of a union, or one for the whole."""
    if kind == "class":
        head, _, body = rest.partition("{")
        yield f"class {name} {head}".rstrip()
        yield from (f"class {name}: {member}" for member in _parts(body.rpartition("}")[0], ";"))
        return
    rest = rest.rstrip(" ;")
    if kind != "type":
        yield f"{kind} {name}{rest}"
        return
    for choice in _parts(rest.removeprefix("= "), "|"):
        is_object = choice.startswith("{") and choice.endswith("}")
        members = list(_parts(choice[1:-1], ";")) if is_object else []
        if not members or members[0].startswith("type:"):
            yield f"type {name}: {choice}"
        else:
            yield from (f"type {name}: {member}" for member in members)


def _parts(text: str, separator: str) -> Iterator[str]:
    """Yield what `separator` parts in `text`, outside of all brackets; not what is private."""
    depth, part = 0, ""
    for before, character in zip(" " + text, text, strict=False):
        if character in OPENING:
            depth += 1
        elif character in CLOSING and before != "=":
            depth -= 1
        if character == separator and not depth:
            yield from _public(part)
            part = ""
        else:
            part += character
    yield from _public(part)


def _public(part: str) -> Iterator[str]:
    part = part.strip()
    if part and not part.startswith("#"):
        yield part
