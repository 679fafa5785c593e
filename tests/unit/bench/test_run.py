"""A run from options to files on a synthetic model of a few kilobytes."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bench import measurement, quality, run
from bench.quality import Quality
from bench.report import BenchReport
from bench.run import Options, replay_in
from bench.systems import ENGINES, INT8
from bundler.cli import parser
from bundler.commands import bench as command
from bundler.console import Console
from bundler.errors import UsageError, VerificationError
from bundler.project import Project
from bundler.recipe import read_recipe
from sidecar.engines.packed import engine
from sidecar.process import cpu_features
from tests.support.miniature import Miniature
from tests.unit.bench.conftest import MACHINE, ROOT, TINY, made_up

if TYPE_CHECKING:
    from pathlib import Path

    from bench.measurement import Measured
    from bundler.recipe import Recipe

PROJECT = Project(root=ROOT)


@pytest.fixture(autouse=True)
def without_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(PROJECT.recipe)


def options(folder: Path, **changes: Any) -> Options:
    given: dict[str, Any] = {
        "service": PROJECT.service,
        "bundle": None,
        "synthetic": "tiny-bert",
        "snapshot": None,
        "threads": 1,
        "models": folder / "models",
        "effort": TINY,
    }
    return Options(**{**given, **changes})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_run_measures_a_synthetic_model_from_the_sources(tmp_path: Path, recipe: Recipe) -> None:
    found = run.run(options(tmp_path), recipe, lambda _: None)
    (measured,) = found.models
    assert measured.model == "tiny-bert"
    assert measured.systems["sidecar"]["engine"] == "packed"
    assert measured.systems["sidecar in process"]["onnxruntime"]
    assert measured.absent["infinity_emb"] == "it is not installed"
    assert "--fastembed" in measured.absent["fastembed"]
    assert found.machine["cores"] >= 1
    ratios = {ratio["name"] for ratio in found.document()["models"][0]["ratios"]}
    assert {"turns", "beside", "ceiling"} <= ratios


def test_a_fastembed_that_cannot_be_run_is_absent(tmp_path: Path, recipe: Recipe) -> None:
    missing = tmp_path / "python"
    served = next(run._served(options(tmp_path), recipe))
    absent: dict[str, str] = {}
    found = run._engines(served, options(tmp_path, fastembed=missing), absent, tmp_path)
    assert [system.kind for system in found] == ["engine", "engine"]
    assert absent["fastembed"] == f"{missing} cannot be run"


def test_int8_has_no_speed_without_byte_products(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cpu_features.VARIABLE, cpu_features.BYTE_PRODUCTS)
    served = replace(next(run._served(options(tmp_path), recipe)), golden=tmp_path / "golden")
    compared = [Quality(texts="golden", worst=1.0, mean=1.0)]

    def measured(measured: Measured, *_: object) -> None:
        assert set(measured.absent) >= {INT8, ENGINES[INT8]}
        assert measured.effort.rounds == 5

    monkeypatch.setattr(run, "_served", lambda *_: [served])
    monkeypatch.setattr(run, "read_golden", lambda path: path)
    monkeypatch.setattr(run, "measure", measured)
    monkeypatch.setattr(quality, "compare", lambda *_: compared)
    (found,) = run.run(options(tmp_path, rounds=5), recipe, lambda _: None).models
    assert "not measurable" in found.absent[INT8]
    assert found.quality == compared


def test_saved_requests_are_sent_to_the_service(tmp_path: Path, recipe: Recipe) -> None:
    folder = tmp_path / "requests"
    folder.mkdir()
    (folder / "1.json").write_text('{"texts": ["a", "b"]}')
    (folder / "2.json").write_text('{"texts": "no list"}')
    sent = replay_in(options(tmp_path), recipe, folder, 2)
    assert [(name, one.status) for name, one in sent.answers] == [("1.json", 200), ("2.json", 422)]


@pytest.mark.parametrize("weights", ["whole", "half"])
def test_our_service_gets_a_copy_with_its_graph(tmp_path: Path, weights: str) -> None:
    snapshot, served = run._synthetic(options(tmp_path), "tiny-bert", weights)
    assert "packed.onnx" not in names(snapshot)
    assert "packed.onnx" in names(served)
    assert ("model.safetensors" in names(served)) == (weights == "whole")
    loaded = engine.load(served, device="cpu", threads=1)
    assert loaded.encode([[2, 7, 3]], pooling="mean", normalize=True).shape == (1, 32)


def test_a_copy_is_made_anew_and_needs_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    _, served = run._synthetic(options(tmp_path), "tiny-bert", "whole")
    (served / "old").touch()
    run._synthetic(options(tmp_path), "tiny-bert", "whole")
    assert "old" not in names(served)
    assert "model.safetensors" in names(served)


def test_a_bundle_without_a_model_needs_a_synthetic_one(tmp_path: Path, recipe: Recipe) -> None:
    bundle = tmp_path / "bundle"
    Miniature.make(tmp_path / "project").assemble(bundle, parts=("runtime", "service"))
    asked = options(tmp_path, bundle=bundle, synthetic=None)
    with pytest.raises(UsageError, match="has no model") as caught:
        next(run._served(asked, recipe))
    assert "--synthetic" in caught.value.next_step


def test_a_bundle_serves_its_own_models_then_the_synthetic_one(
    tmp_path: Path, recipe: Recipe
) -> None:
    bundle = tmp_path / "bundle"
    Miniature.make(tmp_path / "project").assemble(bundle)
    own, second, synthetic = run._served(options(tmp_path, bundle=bundle), recipe)
    assert own.snapshot.is_relative_to(bundle / "models")
    assert own.by == "the bundle bundle, whole weights"
    assert synthetic.name == "tiny-bert"
    assert "--allow-download" in synthetic.program
    assert "--model" not in own.program
    assert list(second.program) == [*own.program, "--model", second.name]
    given = options(tmp_path, bundle=bundle, snapshot=tmp_path)
    assert next(run._served(given, recipe)).snapshot == tmp_path


def asked(*arguments: str) -> Any:
    return parser().parse_args(["bench", *arguments])


def test_options_of_the_command_become_those_of_a_run(tmp_path: Path) -> None:
    project = Project(root=tmp_path)
    given = asked("--checkout", "--threads", "3", "--synthetic", "--rounds", "5")
    chosen = command._chosen(given, project)
    assert (chosen.bundle, chosen.threads, chosen.synthetic) == (None, 3, "xlmr-base")
    assert (chosen.rounds, chosen.fastembed) == (5, None)
    assert not chosen.is_quick
    assert command._chosen(asked("--checkout", "--quick"), project).is_quick


@pytest.fixture
def measured_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run", lambda *_: BenchReport(machine=MACHINE, models=[made_up()]))


@pytest.mark.usefixtures("measured_at_once")
@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_the_command_prints_and_saves_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: tuple[str, ...]
) -> None:
    stream = io.StringIO()
    given = asked("--checkout", "--output", str(tmp_path), *flag)
    assert command.run(given, PROJECT, Console(stream)) == 0
    printed = capsys.readouterr().out
    if flag:
        assert json.loads(printed)["machine"] == MACHINE
    else:
        assert "## minilm" in printed
    assert f"saved: {tmp_path / 'bench.json'}" in stream.getvalue()


@pytest.mark.usefixtures("measured_at_once")
def test_a_run_that_became_worse_is_saved_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    better = made_up()
    better.samples["sidecar"]["whole"] = [[5.0], [6.0]]
    before = tmp_path / "before.json"
    before.write_text(BenchReport(machine=MACHINE, models=[better]).json(), encoding="utf-8")
    given = asked("--checkout", "--output", str(tmp_path), "--against", str(before))
    with pytest.raises(VerificationError, match="ratios fell below"):
        command.run(given, PROJECT, Console(io.StringIO()))
    assert "| below 0.9 |" in capsys.readouterr().out
    assert (tmp_path / "bench.json").is_file()
    same = asked(
        *("--checkout", "--output", str(tmp_path)),
        *("--against", str(tmp_path / "bench.json")),
    )
    assert command.run(same, PROJECT, Console(io.StringIO())) == 0


def test_a_file_to_compare_with_is_read_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "measure", lambda *_: pytest.fail("it measured"))
    (tmp_path / "old.json").write_text('{"format": 1}')
    given = asked("--checkout", "--against", str(tmp_path / "old.json"))
    with pytest.raises(UsageError, match="not a run"):
        command.run(given, PROJECT, Console(io.StringIO()))
