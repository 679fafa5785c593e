"""A run as Markdown for people, as CSV and JSON with every sample, and as a chart."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from bench.figures import CEILING, FIGURES, FORMAT, LEAST, RATE, ratios
from bench.measure import BUSY, MACHINE, UNITS
from bench.systems import INT8
from bundler.atomic import replace_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.measure import Measured

GIGA = 1e9
COLUMNS = ("model", "system", "measure", "round", "value", "unit")
# Vectors farther than that from the reference's are other work: other tokens, another pooling.
LEAST_COSINE = 0.99
WIDTH, NAMES, NUMBERS, LINE, BAR = 900, 230, 110, 22, 14
COLOURS = {"sidecar": "#3b6ea5", "library": "#6b6f76", "peer": "#c46a2b"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run: the machine, and what was measured of each model."""

    machine: Mapping[str, Any]
    models: Sequence[Measured]

    def document(self) -> dict[str, Any]:
        """Return everything that was measured as plain data."""
        models = [
            {**asdict(measured), "ratios": [asdict(ratio) for ratio in ratios(measured)]}
            for measured in self.models
        ]
        return {"format": FORMAT, "machine": self.machine, "models": models}

    def json(self) -> str:
        """Return everything that was measured as JSON."""
        return json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n"

    def csv(self) -> str:
        """Return every sample in a line of its own, under COLUMNS."""
        rows = [
            (measured.model, system, measure, number, value, UNITS[measure])
            for measured in self.models
            for system, measures in measured.samples.items()
            for measure, rounds in measures.items()
            for number, values in enumerate(rounds, 1)
            for value in values
        ]
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
        return text.getvalue()

    def tables(self) -> Iterator[str]:
        """Yield the run as lines of Markdown."""
        machine, load = self.machine, self.machine["load_average"]
        yield (
            f"{machine['processor']}, {machine['cores']} cores "
            f"({', '.join(machine['instructions']) or 'instructions unknown'}), "
            f"{machine['system']}, {machine['date']}, load average before the run "
            f"{load[0] if load else math.nan:.1f}."
        )
        for measured in self.models:
            yield ""
            yield from _model(measured)

    def page(self, picture: str) -> str:
        """Return a page of Markdown that shows the `picture` beside it."""
        lines = [
            "# Measured",
            "",
            f"Written by `python3 build bench --page` on {self.machine['date'][:10]}. What each",
            "figure means: [performance](performance.md).",
            "",
            f"![Texts a second, latency, start and memory of each system]({picture})",
            "",
            *self.tables(),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def chart(self) -> str:
        """Return an SVG with bars for each compared figure of each model, on its own scale."""
        shapes: list[str] = []
        y = 0
        for measured in self.models:
            for figure in (figure for figure in FIGURES if figure.is_compared):
                found = {name: figure.value(measured, name) for name in measured.systems}
                bars = {name: value for name, value in found.items() if value >= 0}
                better = "more" if figure.unit == RATE else "less"
                title = f"{measured.model}: {figure.title}, {figure.unit} ({better} is better)"
                y += LINE
                shapes.append(_text(10, y, title, "#000000"))
                for name, value in bars.items():
                    y += LINE
                    length = max(1, (WIDTH - NAMES - NUMBERS) * value / max(bars.values()))
                    place = f'x="{NAMES}" y="{y - BAR + 2}" width="{length:.0f}" height="{BAR}"'
                    shapes += [
                        _text(20, y, name),
                        f'<rect {place} fill="{COLOURS[measured.systems[name]["kind"]]}"/>',
                        _text(NAMES + length + 6, y, figure.text(value)),
                    ]
                y += LINE // 2
        machine = self.machine
        title = f"{machine['processor']}, {machine['cores']} cores, {machine['date'][:10]}"
        shapes.append(_text(10, y + LINE, title))
        size = f'width="{WIDTH}" height="{y + 2 * LINE}"'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
            f'viewBox="0 0 {WIDTH} {y + 2 * LINE}" font-family="sans-serif" font-size="13">'
        )
        return "\n".join([head, f'<rect {size} fill="#ffffff"/>', *shapes, "</svg>", ""])

    def save(self, folder: Path, page: Path | None) -> list[Path]:
        """Write the run's files into `folder`, and the page with its chart; return their paths.

        Raises DiskError.
        """
        texts = {
            folder / "bench.csv": self.csv(),
            folder / "bench.svg": self.chart(),
            folder / "bench.json": self.json(),
        }
        if page is not None:
            picture = page.with_suffix(".svg")
            texts |= {picture: self.chart(), page: self.page(picture.name)}
        replace_files(texts)
        return list(texts)


def comparison(before: Mapping[str, float], now: Mapping[str, float]) -> Iterator[str]:
    """Yield the ratios of an earlier run beside this run's, the worst first."""
    changes = {key: now[key] / value if key in now else None for key, value in before.items()}
    rows = []
    for key, change in sorted(changes.items(), key=lambda item: item[1] or 0.0):
        cells = ["not measured", ""] if change is None else [f"{now[key]:.2f}", f"{change:.2f}"]
        verdict = f"below {LEAST}" if change is not None and change < LEAST else ""
        rows.append([key, f"{before[key]:.2f}", *cells, verdict])
    yield from _table(["ratio", "before", "now", "now / before", ""], rows)


def _model(measured: Measured) -> Iterator[str]:
    corpus, effort = measured.corpus, measured.effort
    yield f"## {measured.model}, served by {measured.served_by}"
    yield ""
    tokens = "mean {mean:.0f}, p50 {p50:.0f}, p95 {p95:.0f}, most {max}".format(**corpus["tokens"])
    yield f"{corpus['texts']} texts (sha256 {corpus['sha256'][:12]}); tokens a text: {tokens}."
    yield f"Requests of {effort.request_size} texts, {effort.rounds} rounds,"
    yield f"{measured.threads} threads for every system."
    yield ""
    columns = [f"{figure.title}, {figure.unit}" for figure in FIGURES]
    rows = [
        [name, *(f.text(f.value(measured, name)) for f in FIGURES), f"{info['least_cosine']:.6f}"]
        for name, info in measured.systems.items()
    ]
    yield from _table(["system", *columns, "least cosine"], rows)
    yield "Ratios, more is better (lowest to highest round):"
    yield ""
    found = ratios(measured)
    names = dict.fromkeys(ratio.name for ratio in found)
    cells: dict[str, dict[str, str]] = {}
    for ratio in found:
        spread = f"{ratio.value:.2f} ({min(ratio.rounds):.2f} to {max(ratio.rounds):.2f})"
        cells.setdefault(f"{ratio.system} over {ratio.against}", {})[ratio.name] = spread
    rows = [[pair, *(row.get(name, "") for name in names)] for pair, row in cells.items()]
    yield from _table(["", *names], rows)
    yield from _notes(measured)


def _notes(measured: Measured) -> Iterator[str]:
    """Yield the versions of the systems, those that are absent, and the state of the machine."""
    for name, info in measured.systems.items():
        facts = [f"{k} {v}" for k, v in info.items() if isinstance(v, str) and k != "kind"]
        is_other = name != INT8 and info["least_cosine"] < LEAST_COSINE
        other = ". It did other work: its vectors are not the reference's" if is_other else ""
        yield f"- {name}: {', '.join(facts)}{other}"
    for name, why in measured.absent.items():
        yield f"- {name} is absent: {why}"
    for name, measures in measured.samples.items():
        if rates := measures.get("ceiling"):
            found = ", ".join(f"{rate / GIGA:.0f}" for (rate,) in rates)
            yield f"- {CEILING} by {name} in each round: {found} GFLOP/s"
    yield f"- arithmetic of all texts: {measured.flops / GIGA:.0f} GFLOP"
    shares = [share for (share,) in measured.rounds(MACHINE, "others")]
    if shares:
        shares_text = ", ".join(f"{share:.0%}" for share in shares)
        warning = ". The machine was not quiet: measure again" if max(shares) > BUSY else ""
        yield f"- of the machine taken by other programs in each round: {shares_text}{warning}"
    yield ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(cells)} |"
    yield ""


def _text(x: float, y: int, text: str, colour: str = "#6b6f76") -> str:
    return f'<text x="{x:.0f}" y="{y}" fill="{colour}">{escape(text)}</text>'
