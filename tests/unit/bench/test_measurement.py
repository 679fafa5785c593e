"""Rounds of a real service with a stub engine; sentence-transformers is left out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench import measurement
from bench import measurement as module
from bench.measurement import FULL, LARGE, QUICK, Measured, OtherLoad, effort_for
from bench.report import BenchReport, ratios
from bench.systems import INT8, OURS
from bundler.errors import SmokeError
from tests.unit.bench.conftest import MACHINE, TEXTS, TINY, made_up, stub_systems

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.measurement import Say
    from bench.systems import Running, System


def measure(folder: Path, systems: Sequence[System], say: Say) -> Measured:
    config = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 16}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    absent = {"ollama": "it is not installed"}
    found = Measured(model="stub", served_by="the checkout", threads=1, effort=TINY, absent=absent)
    module.measure(found, folder, systems, TEXTS, say)
    return found


@dataclass
class Notes:
    """What a run said, and the order of the systems in each round."""

    said: list[str] = field(default_factory=list)
    orders: list[list[str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def notes() -> Notes:
    return Notes()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, notes: Notes) -> Measured:
    """Return a run of two rounds: the service twice, a peer and an int8 that do not start.

    Another must give vectors nearer than near. Other programs take a quarter of the machine.
    """
    folder = tmp_path_factory.mktemp("bench")
    (ours,) = stub_systems()
    again = replace(ours, name="peer", kind="peer", version=["nothing"])
    int8 = replace(ours, name=INT8, command=[*ours.command, "--no-such-option"])
    missing = replace(ours, name="missing", kind="peer", command=[str(folder / "nothing")])
    other = replace(ours, name="other", kind="peer", least_cosine=1.5)
    in_turn = module._in_turn

    def noted(order: Sequence[Running], texts: Sequence[str], measured: Measured) -> None:
        notes.orders.append([each.system.name for each in order])
        in_turn(order, texts, measured)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_in_turn", noted)
        patch.setattr(OtherLoad, "share", lambda _: 0.25)
        systems = (again, ours, int8, missing, other)
        return measure(folder, systems, notes.said.append)


def test_every_sample_of_every_round_is_kept(measured: Measured) -> None:
    counts = {
        name: [len(values) for values in rounds] for name, rounds in measured.samples[OURS].items()
    }
    counts.pop("private", None)  # which Linux alone tells
    assert counts == {
        "start": [1, 1],
        "whole": [1, 1],
        "requests": [2, 2],
        "single": [4, 4],
        "alone": [3, 3],
        "beside": [3, 3],
    }
    assert [len(values) for values in measured.rounds("numpy", "ceiling")] == [1, 1]


def test_systems_that_do_not_start_are_absent_with_the_reason(measured: Measured) -> None:
    assert list(measured.systems) == ["peer", OURS]
    assert measured.absent["ollama"] == "it is not installed"
    assert "exit code 2" in measured.absent[INT8]
    assert "missing" in measured.absent
    assert "\n" not in measured.absent[INT8]


def test_a_system_of_other_vectors_has_no_samples(measured: Measured) -> None:
    assert "not ours: the least cosine is 1.000000, below 1.5" in measured.absent["other"]
    assert "other" not in measured.samples


def test_vectors_are_compared_and_tokens_counted(measured: Measured) -> None:
    assert measured.systems["peer"]["least_cosine"] == pytest.approx(1.0)
    tokens = measured.corpus["tokens"]
    assert 2 <= tokens["p50"] <= tokens["max"]
    sizes = measurement.Sizes(layers=1, width=8, inner=16)
    assert measured.flops > sizes.per_token(0) * len(TEXTS)


def test_progress_is_reported_by_round(measured: Measured, notes: Notes) -> None:
    assert measured.threads == 1
    assert "starting, round 2 of 2" in notes.said
    assert "measuring, round 2 of 2" in notes.said


def test_a_measurement_can_be_reported_and_read(measured: Measured) -> None:
    assert {ratio.against for ratio in ratios(measured)} == {
        "peer",
        "itself alone",
        "the GEMM ceiling",
    }
    run = BenchReport(machine=MACHINE, models=[measured])
    assert json.loads(run.json())["models"][0]["samples"] == measured.samples
    assert any(line.startswith(f"| {OURS} |") for line in run.tables())


def test_every_second_round_goes_in_the_other_order(measured: Measured, notes: Notes) -> None:
    assert list(measured.systems) == notes.orders[0]
    assert notes.orders == [["peer", OURS], [OURS, "peer"]]


def test_a_busy_machine_is_reported(measured: Measured, notes: Notes) -> None:
    assert any("took 25% of the machine" in line for line in notes.said)
    assert measured.rounds("machine", "others") == [[0.25], [0.25]]


def test_our_service_must_start(tmp_path: Path) -> None:
    (ours,) = stub_systems("--no-such-option")
    with pytest.raises(SmokeError):
        measure(tmp_path, [ours], lambda _: None)


def test_other_vectors_give_another_cosine() -> None:
    found = made_up()
    rows = np.eye(2, dtype=np.float32)
    module._compare({OURS: rows, INT8: 3 * rows[::-1]}, found)
    assert found.systems[OURS]["least_cosine"] == 1.0
    assert found.systems[INT8]["mean_cosine"] == 0.0


def test_a_system_that_loses_a_text_ends_the_measurement() -> None:
    rows = np.eye(3, dtype=np.float32)
    with pytest.raises(SmokeError, match="peer did not give the vectors"):
        module._compare({OURS: rows, "peer": rows[:2]}, made_up())


def test_a_large_model_gets_fewer_texts() -> None:
    small = measurement.Sizes(layers=6, width=384, inner=1536)
    large = measurement.Sizes(layers=12, width=768, inner=3072)
    assert effort_for(small, is_quick=False) == FULL
    assert effort_for(large, is_quick=False) == LARGE
    assert not LARGE.has_engines
    assert effort_for(small, is_quick=True) == QUICK
    assert effort_for(large, is_quick=True) == replace(QUICK, has_engines=False)
