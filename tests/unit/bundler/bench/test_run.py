"""A run from options to files, on a twin of a few kilobytes; the baseline is left out."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bundler.bench import baseline, cost, rounds, run
from bundler.bench.effort import FULL
from bundler.bench.run import Asked, effort_for, replay_in, save
from bundler.bench.served import from_checkout
from bundler.bench.subject import twin
from bundler.cli import parser
from bundler.commands import bench as command
from bundler.console import Console
from bundler.errors import UsageError
from bundler.project import Project
from bundler.recipe import read_recipe
from tests.support.benched import ROOT, TEXTS, TINY, Meter, made_run

if TYPE_CHECKING:
    from bundler.recipe import Recipe

PROJECT = Project(root=ROOT)


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "is_here", lambda: False)
    monkeypatch.setattr(rounds, "Baseline", Meter)
    monkeypatch.setattr(cost, "measure", lambda _: [])


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(PROJECT.recipe)


def asked(folder: Path, **changes: Any) -> Asked:
    given = Asked(
        service=PROJECT.service,
        bundle=None,
        twin="tiny-bert",
        snapshot=None,
        threads=1,
        effort=TINY,
        twins=folder / "twins",
        documentation=folder / "none",
        lean=folder / "lean",
        none=folder / "none",
    )
    return replace(given, **changes)


def test_a_run_measures_saves_and_its_requests_can_be_sent_again(
    tmp_path: Path, recipe: Recipe
) -> None:
    wanted = asked(tmp_path, export=tmp_path / "requests")
    found = run.run(wanted, recipe, lambda _: None)
    saved = {path.name: path.read_text() for path in save(found, tmp_path / "out")}
    assert json.loads(saved["bench.json"]) == json.loads(json.dumps(found))
    assert saved["bench.svg"].startswith("<svg")
    rows = list(csv.DictReader(io.StringIO(saved["bench.csv"])))
    assert {row["subject"] for row in rows} == {"tiny-bert"}
    engine = next(c for c in found["subjects"][0]["contenders"] if c["name"] == "sidecar")
    assert engine["info"]["engine"] == "packed"
    sent = replay_in(wanted, recipe, tmp_path / "requests", lambda _: None)
    assert (sent.requests, sent.texts, sent.failures) == (3, 24, ())


def test_a_model_that_costs_much_more_gets_fewer_texts(tmp_path: Path) -> None:
    program = from_checkout(PROJECT.service, threads=1)
    small = twin(
        "tiny-bert",
        tmp_path,
        texts=TEXTS,
        program=program,
        weights="whole",
        say=lambda _: None,
    )
    assert effort_for(small, FULL) == FULL
    (tmp_path / "large").mkdir()
    config = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072}
    (tmp_path / "large" / "config.json").write_text(json.dumps(config))
    assert effort_for(replace(small, snapshot=tmp_path / "large"), FULL) == FULL.lighter()


def options(*arguments: str) -> Any:
    return parser().parse_args(["bench", *arguments])


def test_the_bundle_of_this_machine_is_measured_unless_another_is_named(tmp_path: Path) -> None:
    project = Project(root=tmp_path)
    assert command._asked(options(), project).bundle is not None
    given = command._asked(options("--bundle", "x", "--threads", "3", "--twin"), project)
    assert (given.bundle, given.threads, given.twin) == (Path("x"), 3, "xlmr-base")
    assert command._asked(options("--checkout"), project).bundle is None


def test_without_a_bundle_the_command_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bundle") as caught:
        command.run(options("--bundle", str(tmp_path)), PROJECT, Console(io.StringIO()))
    assert "assemble" in caught.value.next_step


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_the_command_prints_tables_or_json_and_says_where_the_files_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flag: tuple[str, ...],
) -> None:
    monkeypatch.setattr(run, "run", lambda *_: made_run())
    talk = io.StringIO()
    given = options("--checkout", "--output", str(tmp_path / "out"), *flag)
    assert command.run(given, PROJECT, Console(talk)) == 0
    printed = capsys.readouterr().out
    if flag:
        assert json.loads(printed) == json.loads(json.dumps(made_run()))
    else:
        assert "## Summary" in printed
    for name in ("bench.json", "bench.csv", "bench.svg"):
        assert f"saved: {tmp_path / 'out' / name}" in talk.getvalue()
