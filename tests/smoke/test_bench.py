"""The bench from its command line, beside the real baseline, on a twin of a few kilobytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.smoke.conftest import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path


# torch and the baseline take minutes; tests/unit/bundler/bench measures a stub.
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
    """Return the folder of a quick run of the bundle's own model and a twin."""
    folder = tmp_path_factory.mktemp("bench")
    done = bench(
        *("--quick", "--bundle", bundle, "--twin", "tiny-xlmr"),
        *("--output", folder, "--export", folder / "requests", "--page", folder / "page.md"),
    )
    assert done.returncode == 0, done.stderr
    assert "## Summary" in done.stdout
    return folder


def test_both_models_are_measured_and_give_the_baselines_vectors(out: Path) -> None:
    run = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    assert [subject["name"] for subject in run["subjects"]] == ["minilm", "tiny-xlmr"]
    for subject in run["subjects"]:
        assert subject["vectors"]["reference"] == "sentence-transformers"
        vectors = {each["name"]: each for each in subject["vectors"]["contenders"]}
        assert vectors["sidecar"]["cosine"]["smallest"] > 0.9999
        assert vectors["sidecar"]["agreement"]["recall"] > 0.99
        assert all("torch" in rates for rates in subject["ceilings"])


def test_a_page_for_the_documents_shows_machine_date_and_every_figure(out: Path) -> None:
    run = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    text = (out / "page.md").read_text(encoding="utf-8")
    assert run["machine"]["date"][:10] in text
    assert run["machine"]["processor"] in text
    assert all(f"| {figure['title']} |" in text for figure in run["figures"])
    assert "(page.svg)" in text
    assert (out / "page.svg").read_text(encoding="utf-8").startswith("<svg")


def test_every_figure_of_a_model_is_measured_but_those_that_say_why_not(out: Path) -> None:
    run = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    unmeasured = [figure for figure in run["figures"] if figure["value"] is None]
    assert all(figure["why"] for figure in unmeasured)
    names = {figure["name"] for figure in unmeasured if figure["subject"] == "minilm"}
    assert names <= {"int8", "int8-ndcg", "int8-recall"}


def test_saved_requests_are_sent_again(out: Path, bundle: Path) -> None:
    done = bench("--bundle", bundle, "--replay", out / "requests")
    assert done.returncode == 0, done.stderr
    assert "failures: none" in done.stdout
    assert "4 requests, 128 texts" in done.stdout
