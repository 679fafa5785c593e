"""A whole measurement of our service around a stub engine, everything else left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bundler.bench import baseline, contenders, rounds
from bundler.bench.corpus import Corpus, Paragraph
from bundler.bench.measure import INT8, Others, measure
from bundler.bench.peers import Absent, Peer
from bundler.bench.ratios import figures
from bundler.bench.sheet import sheet
from bundler.bench.subject import Subject
from bundler.bench.tables import tables
from bundler.errors import ModelError, SmokeError
from tests.support.benched import TEXTS, TINY, Meter, made_run, stub_program

if TYPE_CHECKING:
    from pathlib import Path

CORPUS = Corpus(
    paragraphs=tuple(
        Paragraph(text=text, source="made up", title=f"title {number % 3}")
        for number, text in enumerate(TEXTS)
    )
)


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "is_here", lambda: False)
    monkeypatch.setattr(rounds, "Baseline", Meter)


def subject(folder: Path, *options: str) -> Subject:
    config = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 16}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Subject(name="stub", snapshot=folder, program=stub_program(*options), weights="whole")


def others(folder: Path, *found: Peer) -> Others:
    return Others(
        peers=found, absent=[Absent(name="ollama", why="not here")], folder=folder / "homes"
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "is_here", lambda: False)
        patch.setattr(rounds, "Baseline", Meter)
        path = folder / "infinity_emb"
        path.write_text("#!/bin/sh\nexit 3\n")
        path.chmod(0o755)
        peer = Peer(name="infinity_emb", program=path, model=folder)
        found = measure(subject(folder), CORPUS, TINY, others(folder, peer), said.append)
    assert any("round 2 of 2" in line for line in said)
    return found


def ours(measured: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in measured["contenders"] if each["name"] == "sidecar")


def test_every_round_and_every_request_is_kept(measured: dict[str, Any]) -> None:
    found = ours(measured)
    assert len(found["whole_s"]) == len(found["crowds"]) == len(found["bulk_s"]) == TINY.rounds
    assert [len(seconds) for seconds in found["requests_s"]] == [TINY.requests] * TINY.rounds
    assert [len(seconds) for seconds in found["singles_s"]] == [TINY.singles] * TINY.rounds
    assert [len(each["busy"]) for each in found["beside"]] == [TINY.beside]
    cells = [(cell["clients"], cell["size"]) for cell in measured["sweep"]]
    assert cells == [(1, 1), (1, 4), (2, 1), (2, 4)]


def test_tokens_are_those_that_the_model_reads(measured: dict[str, Any]) -> None:
    corpus = measured["corpus"]
    assert sum(row["texts"] for row in corpus["histogram"]) == len(TEXTS)
    assert corpus["tokens"]["max"] >= 2
    assert measured["work"]["tokens"] == pytest.approx(corpus["tokens"]["mean"] * len(TEXTS))


def test_who_is_not_here_or_does_not_start_is_absent_with_the_reason(
    measured: dict[str, Any],
) -> None:
    why = {each["name"]: each["why"] for each in measured["absent"]}
    assert why["ollama"] == "not here"
    assert "no sentence-transformers" in why["sentence-transformers"]
    assert "exit code 3" in why["infinity_emb"]


def test_memory_is_measured_while_it_serves(measured: dict[str, Any]) -> None:
    found = ours(measured)
    if found["private_bytes"] is not None:
        assert 0 < found["private_bytes"] <= found["peak_bytes"]


def test_what_was_measured_is_plain_data_that_tables_and_sheets_can_read(
    measured: dict[str, Any],
) -> None:
    again = json.loads(json.dumps(measured))
    run = {**made_run(again), "figures": [figure.document() for figure in figures(again)]}
    assert any("| sidecar |" in line for line in tables(run))
    assert "sidecar,whole,2" in sheet(run)
    values = {figure.name: figure.value for figure in figures(again)}
    assert values["crowd"] is not None
    assert values["start"] is None


def test_a_variant_that_does_not_start_is_absent_and_the_others_are_measured(
    tmp_path: Path,
) -> None:
    ways = [
        contenders.Variant(name="sidecar"),
        contenders.Variant(name=INT8, options=("--no-such-option",)),
    ]
    field = contenders.open_field(
        stub_program(),
        ways,
        [],
        snapshot=tmp_path,
        first="x",
        rounds=2,
        folder=tmp_path,
        say=lambda _: None,
    )
    try:
        assert [each.name for each in field.contenders] == ["sidecar"]
        assert len(field.ours.starts) == 2
        assert "exit code 2" in next(e.why for e in field.absent if e.name == INT8)
    finally:
        field.close()


def test_a_service_that_does_not_start_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(SmokeError):
        measure(
            subject(tmp_path, "--no-such-option"), CORPUS, TINY, others(tmp_path), lambda _: None
        )


def test_a_baseline_that_cannot_load_the_model_is_absent_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Meter):
        pid = 0

        def load(self, *_: object) -> None:
            raise ModelError("sentence-transformers failed", why="no weights")

    monkeypatch.setattr(baseline, "is_here", lambda: True)
    monkeypatch.setattr(baseline, "Baseline", Broken)
    field = contenders.open_field(
        stub_program(),
        [contenders.Variant(name="sidecar")],
        [],
        snapshot=tmp_path,
        first="x",
        rounds=2,
        folder=tmp_path,
        say=lambda _: None,
    )
    field.close()
    assert [each.why for each in field.absent] == ["sentence-transformers failed: no weights"]
    assert field.baseline is None
