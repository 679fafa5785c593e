"""A run as a page of the documents, with its machine, its date and its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bundler.bench.tables import tables

if TYPE_CHECKING:
    from pathlib import Path

    Data = dict[str, Any]


def page(run: Data, picture: Path) -> str:
    """Return Markdown that shows `run` and the `picture` beside it."""
    machine = run["machine"]
    lines = [
        "# Measured",
        "",
        f"Written by `python3 build bench --page` on {machine['date'][:10]}, on a machine with",
        f"{machine['usable_cores']} cores of {machine['processor']}. What each figure means:",
        "[performance](performance.md).",
        "",
        f"![Texts a second and starts, ours beside the others]({picture.name})",
        "",
        *tables(run),
    ]
    return "\n".join(lines).rstrip() + "\n"
