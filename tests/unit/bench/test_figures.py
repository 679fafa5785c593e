from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench.report import (
    FIGURES,
    BenchReport,
    Ratio,
    named_ratios,
    ratios,
    read_ratios,
    require_no_worse,
)
from bench.systems import ENGINES, INT8, OURS
from bundler.errors import UsageError, VerificationError
from tests.unit.bench.conftest import MACHINE, made_up

if TYPE_CHECKING:
    from pathlib import Path

LIBRARY = "sentence-transformers"


def by_name(found: list[Ratio]) -> dict[tuple[str, str, str], Ratio]:
    return {(ratio.system, ratio.against, ratio.name): ratio for ratio in found}


def test_figures_are_medians_of_the_rounds() -> None:
    values = {figure.title: figure.value(made_up(), OURS) for figure in FIGURES}
    assert values == {
        "all texts at once": pytest.approx((24 / 10 + 24 / 12) / 2),
        "requests": 4.0,
        "one text p50": pytest.approx(20.0),
        "one text p95": pytest.approx(83.0),
        "one text p99": pytest.approx(88.6),
        "one text beside bulk p95": pytest.approx(30.0),
        "start to first vector": pytest.approx(1.1),
        "private memory": 100.0,
    }


def test_a_figure_that_was_not_measured_is_empty() -> None:
    shown = {f.title: f.text(f.value(made_up(), LIBRARY)) for f in FIGURES}
    assert shown["one text beside bulk p95"] == ""
    assert shown["private memory"] == "300"


def test_more_is_better_in_every_ratio() -> None:
    found = by_name(ratios(made_up()))
    for name in ("whole", "requests", "single", "start", "private"):
        assert found[OURS, LIBRARY, name].value == pytest.approx(3.0)
        assert found[INT8, OURS, name].value == pytest.approx(2.0)
        assert found[OURS, "<peer> & Co", name].value == pytest.approx(2.0)


def test_ratios_are_paired_round_by_round() -> None:
    measured = made_up()
    measured.samples[LIBRARY]["whole"] = [[20.0], [120.0]]
    ratio = by_name(ratios(measured))[OURS, LIBRARY, "whole"]
    assert ratio.rounds == [2.0, 10.0]
    assert ratio.value == 6.0


def test_latency_beside_bulk_is_compared_with_alone() -> None:
    ratio = by_name(ratios(made_up()))[OURS, "itself alone", "beside"]
    assert ratio.rounds == pytest.approx([0.5, 0.25])


def test_our_service_is_compared_with_its_own_engine_by_turns() -> None:
    measured = made_up()
    engine = ENGINES[OURS]
    measured.systems[engine] = {**measured.systems[OURS], "kind": "engine"}
    measured.samples[engine] = {"turns": [[0.008, 0.009], [0.008, 0.008]]}
    measured.samples[OURS]["turns"] = [[0.01, 0.02], [0.01, 0.01]]
    found = by_name(ratios(measured))
    assert found[OURS, engine, "turns"].rounds == pytest.approx([8.5 / 15, 0.8])
    assert not any(pair[:2] in {(engine, OURS), (INT8, engine)} for pair in found)


def test_the_ceiling_is_that_of_the_best_library_of_a_round() -> None:
    ratio = by_name(ratios(made_up()))[OURS, "the GEMM ceiling", "ceiling"]
    assert ratio.rounds == pytest.approx([60_000 / 10 / 8_000, 60_000 / 12 / 10_000])


def test_absent_systems_have_no_ratios() -> None:
    measured = made_up()
    del measured.systems[INT8], measured.systems[LIBRARY]
    assert {(r.system, r.against) for r in ratios(measured)} == {
        (OURS, "<peer> & Co"),
        (OURS, "itself alone"),
        (OURS, "the GEMM ceiling"),
    }


def test_ratios_of_a_saved_run_are_read_again(tmp_path: Path) -> None:
    run = BenchReport(machine=MACHINE, models=[made_up(), made_up(model="xlmr-base")])
    (tmp_path / "bench.json").write_text(run.json(), encoding="utf-8")
    found = read_ratios(tmp_path / "bench.json")
    assert found == named_ratios(run.document())
    key = f"xlmr-base, 24 texts, 2 threads: {OURS} / {LIBRARY}, whole"
    assert found[key] == pytest.approx(3.0)


@pytest.mark.parametrize(
    "text", ["no json", "[]", "{}", json.dumps({"format": 1, "models": []}), '{"format": 2}']
)
def test_a_file_that_is_no_run_cannot_be_compared(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match="not a run") as caught:
        read_ratios(tmp_path / "x.json")
    assert "bench.json" in caught.value.next_step


@pytest.mark.parametrize("now", [0.9, 1.0, 5.0])
def test_a_ratio_may_fall_to_nine_tenths(now: float) -> None:
    require_no_worse({"a": 1.0, "gone": 4.0}, {"a": now, "new": 0.1})


def test_a_ratio_that_fell_further_is_named() -> None:
    with pytest.raises(VerificationError, match="1 of 2") as caught:
        require_no_worse({"a": 2.0, "b": 1.0}, {"a": 1.7, "b": 1.0})
    assert caught.value.exit_code == 8
    assert caught.value.why == "a: 2.00, now 1.70"


def test_runs_of_other_texts_have_no_common_ratio() -> None:
    quick = made_up(corpus={**made_up().corpus, "texts": 8})
    runs = (
        named_ratios(BenchReport(machine=MACHINE, models=[one]).document())
        for one in (made_up(), quick)
    )
    with pytest.raises(UsageError, match="no ratio in common"):
        require_no_worse(*runs)


def test_runs_without_a_common_ratio_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="no ratio in common"):
        require_no_worse({"a": 1.0}, {"b": 1.0})
