from __future__ import annotations

import csv
import io

from bundler.bench.sheet import COLUMNS, sheet
from tests.support.benched import made_run


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(sheet(made_run()))))


def test_every_line_has_every_column_and_a_number() -> None:
    text = sheet(made_run())
    assert text.splitlines()[0].split(",") == list(COLUMNS)
    for row in rows():
        assert None not in row
        float(row["value"])
        assert row["unit"]


def test_every_single_request_is_in_it() -> None:
    singles = [
        row for row in rows() if row["contender"] == "sidecar" and row["measure"] == "singles"
    ]
    assert [float(row["value"]) for row in singles] == [0.01, 0.02, 0.03] * 2
    assert {row["round"] for row in singles} == {"1", "2"}


def test_sweep_ceilings_memory_and_figures_are_in_it() -> None:
    measures = {row["measure"] for row in rows()}
    assert {"sweep", "sweep p95", "ceiling", "memory private", "figure whole"} <= measures
    assert {"whole", "requests", "crowd", "bulk", "single idle", "single busy"} <= measures


def test_a_name_with_commas_or_quotes_stays_one_cell() -> None:
    run = made_run()
    run["subjects"][0]["contenders"][3]["name"] = 'a "peer", that is'
    found = {row["contender"] for row in csv.DictReader(io.StringIO(sheet(run)))}
    assert 'a "peer", that is' in found
