"""A run as a picture: bars of texts a second, and of milliseconds, everybody side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    Data = dict[str, Any]

WIDTH, NAMES, NUMBERS = 900, 230, 110
LINE, BAR = 22, 14
COLOURS = {"sidecar": "#3b6ea5", "baseline": "#6b6f76", "peer": "#c46a2b"}
MEGABYTE = 1_000_000


def draw(run: Data) -> str:
    """Return an SVG with a group of bars for each measure of each model, to a scale of its own."""
    lines = []
    top = 0
    for subject in run["subjects"]:
        for title, bars in _groups(subject):
            top += LINE
            text = escape(f"{subject['name']}: {title}")
            lines.append(f'<text x="10" y="{top}" font-weight="bold">{text}</text>')
            top += LINE // 2
            largest = max((value for _, _, value, _ in bars), default=0) or 1
            for name, kind, value, label in bars:
                length = max(1, round((WIDTH - NAMES - NUMBERS) * value / largest))
                base = top + BAR - 2
                look = f'fill="{COLOURS.get(kind, "#8a5ba8")}"'
                lines += [
                    f'<text x="20" y="{base}">{escape(name)}</text>',
                    f'<rect x="{NAMES}" y="{top}" width="{length}" height="{BAR}" {look}/>',
                    f'<text x="{NAMES + length + 6}" y="{base}">{escape(label)}</text>',
                ]
                top += LINE
            top += LINE // 2
    machine = run["machine"]
    title = f"{machine['processor']}, {run['threads']} threads, {machine['date']}"
    top += LINE
    lines.append(f'<text x="10" y="{top}" fill="#6b6f76">{escape(title)}</text>')
    height = top + LINE
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *lines, "</svg>", ""])


def _groups(subject: Data) -> Iterator[tuple[str, list[tuple[str, str, float, str]]]]:
    """Yield each group: its title, and the name, kind, value and label of every bar."""
    everybody = subject["contenders"]

    def bars(values: list[float | None], label: str) -> list[tuple[str, str, float, str]]:
        return [
            (each["name"], each["kind"], value, label.format(value))
            for each, value in zip(everybody, values, strict=True)
            if value is not None
        ]

    sums = [each["summary"] for each in everybody]
    yield "whole corpus, texts/s", bars([s["whole_texts_per_s"] for s in sums], "{:.1f}")
    title = f"requests of {subject['effort']['request_size']} texts, texts/s"
    yield title, bars([s["requests_texts_per_s"] for s in sums], "{:.1f}")
    yield (
        "one text, p50, ms (less is better)",
        bars([s["single"]["p50"] * 1e3 for s in sums], "{:.1f}"),
    )
    first = [min(start["vector_s"] for start in each["starts"]) for each in everybody]
    yield "process start to first vector, s (less is better)", bars(list(first), "{:.2f}")
    private = [
        None if each["private_bytes"] is None else each["private_bytes"] / MEGABYTE
        for each in everybody
    ]
    if any(value is not None for value in private):
        yield "private memory while serving, MB (less is better)", bars(private, "{:.0f}")
