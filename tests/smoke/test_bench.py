"""The bench from its command line, beside sentence-transformers, on two small models."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.smoke.conftest import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path


# torch takes minutes; tests/unit/bench measures a stub.
pytestmark = pytest.mark.full


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CHECKOUT / "build", "bench", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        encoding="utf-8",
        check=False,
        # Beside other tests, threads of torch that spin would take many times as long.
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """Return the folder of a quick run of the bundle's own model and a synthetic one."""
    folder = tmp_path_factory.mktemp("bench")
    done = bench(
        *("--quick", "--bundle", bundle, "--synthetic", "tiny-xlmr"),
        *("--output", folder, "--page", folder / "page.md"),
    )
    assert done.returncode == 0, done.stderr
    assert "| sidecar over sentence-transformers |" in done.stdout
    return folder


@pytest.fixture(scope="module")
def run(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    return found


def test_both_models_give_the_vectors_of_the_library(run: dict[str, Any]) -> None:
    assert [model["model"] for model in run["models"]] == ["minilm", "tiny-xlmr"]
    for model in run["models"]:
        assert model["systems"]["sidecar"]["least_cosine"] > 0.9999
        assert model["systems"]["sentence-transformers"]["torch"]
        assert len(model["samples"]["torch"]["ceiling"]) == model["effort"]["rounds"]


def test_int8_of_the_real_model_is_held_against_float32(run: dict[str, Any]) -> None:
    real, synthetic = run["models"]
    golden, ranked = real["quality"]
    assert golden["texts"] == "83 golden texts"
    assert ranked["texts"] == "200 paragraphs"
    assert 0.9 < ranked["recall"] < 1
    assert ranked["recall"] < ranked["ndcg"] < 1
    assert synthetic["quality"] == []


def test_our_service_is_compared_in_every_figure(run: dict[str, Any]) -> None:
    for model in run["models"]:
        names = {ratio["name"] for ratio in model["ratios"] if ratio["system"] == "sidecar"}
        expected = {"whole", "requests", "single", "start", "private", "beside", "ceiling"}
        assert names == expected | {"turns"}
        assert all(ratio["value"] > 0 for ratio in model["ratios"])


def test_the_page_shows_machine_date_and_every_system(out: Path, run: dict[str, Any]) -> None:
    text = (out / "page.md").read_text(encoding="utf-8")
    assert run["machine"]["date"][:10] in text
    assert run["machine"]["processor"] in text
    assert all(f"\n| {name} |" in text for model in run["models"] for name in model["systems"])
    assert "(page.svg)" in text
    assert (out / "page.svg").read_text(encoding="utf-8").startswith("<svg")
    with (out / "bench.csv").open(encoding="utf-8") as stream:
        assert {row["model"] for row in csv.DictReader(stream)} == {"minilm", "tiny-xlmr"}


def test_saved_requests_are_sent_by_several_clients(out: Path, bundle: Path) -> None:
    folder = out / "requests"
    folder.mkdir()
    for number in range(6):
        texts = ["a text"] * (number + 1) if number else [0]
        (folder / f"{number}.json").write_text(json.dumps({"texts": texts}))
    done = bench("--bundle", bundle, "--replay", folder, "--clients", "3", "--output", out)
    assert done.returncode == 0, done.stderr
    assert "6 requests by 3 clients" in done.stdout
    assert "| 200 | 5 |" in done.stdout
    assert "- 422 " in done.stdout
    assert "0.json" in done.stdout
    assert (out / "replay.csv").is_file()
