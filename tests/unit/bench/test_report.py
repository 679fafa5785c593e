from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from bench.quality import Quality
from bench.report import COLUMNS, BenchReport, comparison
from bench.systems import INT8, OURS
from tests.unit.bench.conftest import MACHINE, made_up

if TYPE_CHECKING:
    from pathlib import Path

RUN = BenchReport(machine=MACHINE, models=[made_up()])
SVG = "{http://www.w3.org/2000/svg}"


def row(lines: list[str], first: str) -> list[str]:
    line = next(line for line in lines if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_sample_is_a_line_of_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(RUN.csv())))
    assert tuple(rows[0]) == COLUMNS
    samples = made_up().samples
    count = sum(len(v) for measures in samples.values() for r in measures.values() for v in r)
    assert len(rows) == count
    last = [r for r in rows if (r["system"], r["measure"], r["round"]) == (OURS, "requests", "2")]
    assert [(r["value"], r["unit"]) for r in last] == [("2.0", "s"), ("2.0", "s")]
    assert {r["unit"] for r in rows} == {"s", "bytes", "FLOP/s", "share"}


def test_json_has_the_machine_the_samples_and_the_ratios() -> None:
    found = json.loads(RUN.json())
    assert found["machine"] == MACHINE
    (model,) = found["models"]
    assert model["samples"] == made_up().samples
    assert model["effort"]["rounds"] == 2
    assert {"system": OURS, "against": "itself alone", "name": "beside"}.items() <= next(
        r.items() for r in model["ratios"] if r["against"] == "itself alone"
    )


def test_a_system_is_a_row_of_its_figures() -> None:
    lines = list(RUN.tables())
    assert row(lines, OURS)[1:4] == ["2.2", "4.0", "20.0"]
    assert row(lines, "sentence-transformers")[6] == ""
    assert row(lines, INT8)[-1] == "0.970000"


def test_a_ratio_shows_its_lowest_and_highest_round() -> None:
    lines = list(RUN.tables())
    assert "3.00 (3.00 to 3.00)" in row(lines, f"{OURS} over sentence-transformers")
    assert "0.38 (0.25 to 0.50)" in row(lines, f"{OURS} over itself alone")


def test_quality_of_int8_is_a_table_of_its_own() -> None:
    golden = Quality(texts="83 golden texts", worst=0.97, mean=0.99)
    ranked = Quality(texts="12 paragraphs", worst=0.98, mean=0.995, ndcg=0.9861, recall=0.9)
    lines = list(BenchReport(machine=MACHINE, models=[made_up(quality=[golden, ranked])]).tables())
    assert row(lines, "83 golden texts")[1:] == ["0.9700", "0.9900", "", ""]
    assert row(lines, "12 paragraphs")[1:] == ["0.9800", "0.9950", "0.9861", "0.9000"]
    assert not any("recall" in line for line in RUN.tables())


def test_notes_name_versions_absent_systems_and_other_vectors() -> None:
    text = "\n".join(RUN.tables())
    assert "- sidecar: version 0.1.0\n" in text
    assert "- ollama is absent: it is not installed" in text
    assert "- <peer> & Co: version 0.1.0. It did other work" in text
    assert "- sidecar int8: version 0.1.0\n" in text
    assert "in each round: 1%, 50%. The machine was not quiet" in text
    assert "A Processor, 2 cores (avx2)" in text


def test_a_machine_that_tells_little_is_reported() -> None:
    measured = made_up()
    machine = {**MACHINE, "load_average": [], "instructions": []}
    text = "\n".join(BenchReport(machine=machine, models=[measured]).tables())
    assert "instructions unknown" in text


def test_the_chart_has_a_bar_for_each_system_and_figure() -> None:
    root = ET.fromstring(RUN.chart())  # noqa: S314 - we made it
    bars = root.findall(f"{SVG}rect")[1:]
    assert len(bars) == 4 * 5
    widths = [float(bar.attrib["width"]) for bar in bars[:4]]
    assert max(widths) == 900 - 230 - 110
    assert widths[1] / widths[0] == 3.0 or abs(widths[1] / widths[0] - 3.0) < 0.05
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert "<peer> & Co" in texts
    assert any("less is better" in str(text) for text in texts)


def test_a_run_is_saved_with_its_page_and_chart(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "measured.md"
    saved = RUN.save(tmp_path / "out", page)
    assert sorted(path.name for path in saved) == [
        *("bench.csv", "bench.json", "bench.svg", "measured.md", "measured.svg")
    ]
    assert all(path.is_file() for path in saved)
    text = page.read_text(encoding="utf-8")
    assert "(measured.svg)" in text
    assert "on 2020-01-01" in text
    assert [path.name for path in RUN.save(tmp_path / "out", None)][-1] == "bench.json"


def test_a_comparison_begins_with_what_became_worse() -> None:
    lines = list(comparison({"a": 1.0, "b": 1.0, "gone": 2.0}, {"a": 1.1, "b": 0.8, "new": 1.0}))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:5]]
    assert cells == [
        ["gone", "2.00", "not measured", "", ""],
        ["b", "1.00", "0.80", "0.80", "below 0.9"],
        ["a", "1.00", "1.10", "1.10", ""],
    ]
