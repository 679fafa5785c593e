"""The profile that embeds files: whole, and with the vectors of its service."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bundler.launch import RunningService, command
from sidecar.manifest import read
from tests.smoke.conftest import assembled

pq = pytest.importorskip("pyarrow.parquet", reason="profiles that embed files are for Linux")
pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[2]
START_SECONDS = 60


# How each profile embeds, which is whole and gives its service's vectors.
WAYS: dict[str, tuple[str, ...]] = {
    "batch": (),
    "cluster": ("--ray", "local", "--actors", "2"),
}
ROWS = 1_000


@pytest.fixture(scope="module", params=WAYS)
def profile(request: pytest.FixtureRequest) -> str:
    """Return a profile that embeds files."""
    return str(request.param)


@pytest.fixture(scope="module")
def batch(profile: str) -> Path:
    """Return a bundle of the profile, assembled or reused."""
    return assembled("--profile", profile)


def test_the_command_smoke_finds_the_bundle_whole(batch: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "build", "smoke", batch],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_files_get_the_vectors_of_the_service(
    profile: str, batch: Path, texts: list[str], tmp_path: Path
) -> None:
    texts = [f"{text} {number}" for number, text in zip(range(ROWS), itertools.cycle(texts))]
    with (tmp_path / "in.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    python = batch / read(batch).runtime.executable
    given = ["in.jsonl", "--output", "out", *WAYS[profile]]
    done = subprocess.run(
        [python, "-I", "-B", batch / "embedding_sidecar", "embed", *given],
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        env={},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = pq.read_table(tmp_path / "out/part-00000.parquet")
    with RunningService.start(command(batch, ["--port", "0"]), environment={}) as running:
        running.wait_ready(START_SECONDS)
        answer = running.request("/embed", {"texts": texts})
    served = np.array(answer["vectors"], np.float32)
    written = np.array(made.column("vector").to_pylist(), np.float32)
    assert (served * written).sum(axis=1).min() >= 0.999999
    assert made.column("tokens").to_pylist() == answer["tokens"]
    assert set(made.column("fingerprint").to_pylist()) == {answer["fingerprint"]}
