"""The sizes of a bundle as bars in an SVG: same bundle, same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from bundler.inspection.inventory import label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bundler.inspection.sizes import Sizes

MOST = 8
WIDTH = 900
NAMES = 260
NUMBERS = 110
LINE = 22
BAR = 14
COLOURS = ("#3b6ea5", "#c46a2b", "#3f8f5b", "#8a5ba8", "#b3893a", "#6b6f76")
MEGABYTE = 1_000_000


def draw(sizes: Sizes) -> str:
    """Return an SVG with one bar per component and for its largest packages, to one scale."""
    rows = list(_rows(sizes))
    height = (len(rows) + 2) * LINE
    largest = max((size for _, _, size, _ in rows), default=0) or 1
    title = (
        f"{sizes.target}, profile {sizes.profile}: {_megabytes(sizes.size)}, {sizes.files} files"
    )
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="{LINE}" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, is_component, size, colour) in enumerate(rows):
        top = (number + 1) * LINE + LINE // 2
        base = top + BAR - 2
        # Whole pixels: nothing here depends on how a machine rounds.
        length = max(1, (WIDTH - NAMES - NUMBERS) * size // largest)
        indent, weight, opacity = (10, "bold", "1") if is_component else (26, "normal", "0.6")
        look = f'fill="{colour}" fill-opacity="{opacity}"'
        lines += [
            f'<text x="{indent}" y="{base}" font-weight="{weight}">{escape(name)}</text>',
            f'<rect x="{NAMES}" y="{top}" width="{length}" height="{BAR}" {look}/>',
            f'<text x="{NAMES + length + 6}" y="{base}">{_megabytes(size)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _rows(sizes: Sizes) -> Iterator[tuple[str, bool, int, str]]:
    """Yield each bar: its name, whether it is a component, its bytes, its colour."""
    for number, component in enumerate(sizes.components):
        colour = COLOURS[number % len(COLOURS)]
        yield component.name, True, component.size, colour
        for share in component.packages[:MOST] if len(component.packages) > 1 else ():
            yield label(share.package), False, share.size, colour


def _megabytes(size: int) -> str:
    tenths = (size * 10 + MEGABYTE // 2) // MEGABYTE
    return f"{tenths // 10}.{tenths % 10} MB"
