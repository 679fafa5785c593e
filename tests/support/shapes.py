"""Which keys a document of JSON or TOML has, and what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def members(value: object, place: str = "", *, named: Collection[str] = ()) -> Iterator[str]:
    """Yield each key in `value` by its path, and the type of what it holds.

    In the tables at the paths `named`, keys are names of things: `*` stands for each.
    """
    if isinstance(value, dict):
        for key, held in value.items():
            below = ".".join(filter(None, (place, "*" if place in named else key)))
            yield f"{below}: {kind_of(held)}"
            yield from members(held, below, named=named)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for held in value:
            yield from members(held, f"{place}[]", named=named)


def kind_of(value: object) -> str:
    match value:
        case dict():
            return "table"
        case list():
            return f"list of {' or '.join(sorted({kind_of(held) for held in value}))}".rstrip()
        case bool():
            return "boolean"
        case None:
            return "null"
        case _:
            return {int: "integer", float: "number", str: "string"}[type(value)]
