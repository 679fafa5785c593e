"""A run as Markdown for people, as CSV and JSON with every sample, and as a chart."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np

from bench.measurement import BUSY, MACHINE, UNITS
from bench.quality import DEPTH
from bench.systems import ENGINES, INT8, OURS
from bundler.atomic import replace_files
from bundler.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.measurement import Measured

GIGA = 1e9
COLUMNS = ("model", "system", "measure", "round", "value", "unit")
# Vectors farther than that from the reference's are other work: other tokens, another pooling.
LEAST_COSINE = 0.99
WIDTH, NAMES, NUMBERS, LINE, BAR = 900, 230, 110, 22, 14
COLOURS = {"sidecar": "#3b6ea5", "engine": "#8fb3d9", "library": "#6b6f76", "peer": "#c46a2b"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
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
        return csv_text([COLUMNS, *rows])

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
    yield from table(["ratio", "before", "now", "now / before", ""], rows)


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
    yield from table(["system", *columns, "least cosine"], rows)
    yield "Ratios, more is better (lowest to highest round):"
    yield ""
    found = ratios(measured)
    names = dict.fromkeys(ratio.name for ratio in found)
    cells: dict[str, dict[str, str]] = {}
    for ratio in found:
        spread = f"{ratio.value:.2f} ({min(ratio.rounds):.2f} to {max(ratio.rounds):.2f})"
        cells.setdefault(f"{ratio.system} over {ratio.against}", {})[ratio.name] = spread
    rows = [[pair, *(row.get(name, "") for name in names)] for pair, row in cells.items()]
    yield from table(["", *names], rows)
    if measured.quality:
        yield "Vectors in int8 beside those in float32, and their rankings (1 is no change):"
        yield ""
        columns = ["", "worst cosine", "mean cosine", f"nDCG@{DEPTH}", f"recall@{DEPTH}"]
        figures = [(q.texts, (q.worst, q.mean, q.ndcg, q.recall)) for q in measured.quality]
        rows = [
            [texts, *("" if one is None else f"{one:.4f}" for one in found)]
            for texts, found in figures
        ]
        yield from table(columns, rows)
    yield from _notes(measured)


def _notes(measured: Measured) -> Iterator[str]:
    """Yield the versions of the systems, those that are absent, and the state of the machine."""
    for name, info in measured.systems.items():
        facts = [f"{k} {v}" for k, v in info.items() if isinstance(v, str) and k != "kind"]
        is_other = name not in (INT8, ENGINES[INT8]) and info["least_cosine"] < LEAST_COSINE
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
    warning = ". The machine was not quiet: measure again" if max(shares) > BUSY else ""
    taken = ", ".join(f"{share:.0%}" for share in shares)
    yield f"- of the machine taken by other programs in each round: {taken}{warning}"
    yield ""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table of Markdown, and an empty line."""
    for cells in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(cells)} |"
    yield ""


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _text(x: float, y: int, text: str, colour: str = "#6b6f76") -> str:
    return f'<text x="{x:.0f}" y="{y}" fill="{colour}">{escape(text)}</text>'


FORMAT = 2
LEAST = 0.9  # of an earlier ratio: below that, a run is worse
RATE = "texts/s"
OWN = (OURS, INT8, *ENGINES.values())
ALONE, CEILING = "itself alone", "the GEMM ceiling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of one system: the samples of a round that it sums up, and how it is shown.

    It is a quantile of them or, without one, their sum, divided by `scale`; a rate is the number of
    texts divided by that sum. Those that `is_compared` make ratios of two systems.
    """

    title: str
    measure: str
    unit: str = RATE
    quantile: float | None = None
    scale: float = 1.0
    digits: int = 1
    is_compared: bool = True

    def rounds(self, measured: Measured, system: str) -> list[float]:
        """Return its value in each round, none if it was not measured."""
        found = measured.rounds(system, self.measure)
        texts = measured.corpus["texts"]
        if self.measure == "requests":
            texts = min(texts, measured.effort.requests * measured.effort.request_size)
        sums = [
            float(sum(values) if self.quantile is None else np.percentile(values, self.quantile))
            for values in found
        ]
        return [texts / value if self.unit == RATE else value / self.scale for value in sums]

    def value(self, measured: Measured, system: str) -> float:
        """Return the median of its rounds, NaN if it was not measured."""
        return median(self.rounds(measured, system) or [math.nan])

    def text(self, value: float) -> str:
        """Return a value as it is shown, without its unit."""
        return "" if math.isnan(value) else f"{value:.{self.digits}f}"


SINGLE = Figure(title="one text p50", measure="single", unit="ms", quantile=50, scale=1e-3)
TAIL = replace(SINGLE, quantile=95, is_compared=False)
FIGURES = (
    Figure(title="all texts at once", measure="whole"),
    Figure(title="requests", measure="requests"),
    SINGLE,
    replace(TAIL, title="one text p95"),
    replace(TAIL, title="one text p99", quantile=99),
    replace(TAIL, title="one text beside bulk p95", measure="beside"),
    Figure(title="start to first vector", measure="start", unit="s", digits=2),
    Figure(title="private memory", measure="private", unit="MB", scale=1e6, digits=0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio of `system` to `against`: the rounds' own ratios, and their median `value`."""

    system: str
    against: str
    name: str
    value: float
    rounds: Sequence[float]


def ratios(measured: Measured) -> list[Ratio]:
    """Return the ratios of our service and its engine, in float32 and in int8, to other systems.

    Two more are of one system: its latency alone to that beside a bulk client, and the arithmetic
    of the real tokens to the GEMM ceiling, of which int8 has another.
    """
    found: list[Ratio] = []
    own_pairs = {(INT8, OURS), *ENGINES.items()}
    for system in (name for name in OWN if name in measured.systems):
        for against in measured.systems:
            if against in OWN and (system, against) not in own_pairs:
                continue
            compared = [figure for figure in FIGURES if figure.is_compared]
            if ENGINES.get(system) == against:
                compared.append(replace(SINGLE, measure="turns"))
            for figure in compared:
                own, other = (figure.rounds(measured, name) for name in (system, against))
                over, under = (own, other) if figure.unit == RATE else (other, own)
                found += _ratio(system, against, figure.measure, over, under)
        latency = (replace(TAIL, measure=name) for name in ("alone", "beside"))
        over, under = (figure.rounds(measured, system) for figure in latency)
        found += _ratio(system, ALONE, "beside", over, under)
    rates = [each["ceiling"] for each in measured.samples.values() if "ceiling" in each]
    ceilings = [max(rate for (rate,) in of_round) for of_round in zip(*rates, strict=True)]
    done = [measured.flops / seconds for (seconds,) in measured.rounds(OURS, "whole")]
    return [*found, *_ratio(OURS, CEILING, "ceiling", done, ceilings)]


def _ratio(
    system: str, against: str, name: str, over: Sequence[float], under: Sequence[float]
) -> Iterator[Ratio]:
    """Yield the ratio of two figures' rounds, if both were measured."""
    if over and under:
        rounds = [a / b for a, b in zip(over, under, strict=True)]
        value = median(rounds)
        yield Ratio(system=system, against=against, name=name, value=value, rounds=rounds)


def read_ratios(path: Path) -> dict[str, float]:
    """Return the ratios of the run saved in `path`. Raises UsageError if it is no such file."""
    try:
        run: dict[str, Any] = json.loads(path.read_bytes())
        if run["format"] != FORMAT:
            raise ValueError(f"its format is {run['format']}, not {FORMAT}")  # noqa: TRY301
        return named_ratios(run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not a run to compare with",
            why=str(error),
            next_step="python3 build bench --output FOLDER writes FOLDER/bench.json",
        ) from error


def named_ratios(run: Mapping[str, Any]) -> dict[str, float]:
    """Return every ratio of a run, by names that say what has to be the same to compare it."""
    return {
        f"{model['model']}, {model['corpus']['texts']} texts, {model['threads']} threads: "
        f"{ratio['system']} / {ratio['against']}, {ratio['name']}": float(ratio["value"])
        for model in run["models"]
        for ratio in model["ratios"]
    }


def require_no_worse(before: Mapping[str, float], now: Mapping[str, float]) -> None:
    """Raise VerificationError if a ratio fell, UsageError if none is in both runs."""
    common = before.keys() & now.keys()
    if not common:
        raise UsageError(
            "the runs have no ratio in common",
            why="they measured other models or systems",
            next_step="compare with a run of the same options",
        )
    worse = sorted(key for key in common if now[key] < LEAST * before[key])
    if worse:
        raise VerificationError(
            f"{len(worse)} of {len(common)} ratios fell below {LEAST} of the earlier run's",
            why="; ".join(f"{key}: {before[key]:.2f}, now {now[key]:.2f}" for key in worse),
            next_step="measure both again on a quiet machine, then look for what changed",
        )
