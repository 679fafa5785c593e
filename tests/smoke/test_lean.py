"""The profile for the packed engine alone: small, proven, and honest about what it cannot run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler.launch import RunningService, command
from bundler.targets import target_named
from sidecar.engines.packed.architecture import GRAPH, HALF_WEIGHTS, WEIGHTS
from sidecar.manifest import read

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
# What a machine without a use for them need not carry.
ABSENT = ("torch", "transformers", "sentence_transformers", "scipy", "sklearn", "sympy", "PIL")


@pytest.fixture(scope="module")
def service(lean: Path) -> Iterator[RunningService]:
    with RunningService.start(command(lean, ["--port", "0"]), environment={}) as running:
        running.wait_ready(START_SECONDS)
        yield running


def site_packages(bundle: Path) -> Path:
    return bundle / target_named(read(bundle).target).site_packages


def test_the_command_smoke_finds_it_whole(lean: Path) -> None:
    done = subprocess.run(
        [sys.executable, "build", "smoke", str(lean)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "removed by the profile lean" in done.stderr


def test_it_holds_nothing_of_the_reference_engine(lean: Path) -> None:
    assert [name for name in ABSENT if (site_packages(lean) / name).exists()] == []


def test_it_holds_each_weight_once_in_half(lean: Path) -> None:
    names = {path.name for path in (lean / "models").rglob("*") if path.is_file()}
    assert {GRAPH, HALF_WEIGHTS} <= names
    assert WEIGHTS not in names


def test_it_says_that_it_is_packed(service: RunningService) -> None:
    info = service.request("/info")
    assert info["engine"] == "packed"
    assert info["unpacked_because"] is None


def refusal(lean: Path, *options: str) -> str:
    """Return what the service says when it cannot load a model: it ends with 11."""
    done = subprocess.run(
        command(lean, ["--port", "0", *options]),
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={},
        timeout=START_SECONDS,
    )
    assert done.returncode == 11, done.stderr
    return done.stderr


def test_the_reference_engine_is_refused_with_11(lean: Path) -> None:
    assert "this bundle has no reference engine" in refusal(lean, "--engine", "reference")


def test_a_model_that_only_the_other_engine_runs_is_refused_with_11(
    lean: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(lean / read(lean).models[0].snapshot, tmp_path / "model")
    held = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps(held | {"model_type": "t5"}), encoding="utf-8")
    assert "t5" in refusal(lean, "--allow-download", "--model", str(model))


def test_files_are_embedded_by_another_profile(lean: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(lean, ["embed", str(tmp_path), "--output", str(tmp_path / "out")]),
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "python3 build assemble --profile batch" in done.stderr
