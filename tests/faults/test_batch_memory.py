"""A job of any length takes the memory of one shard."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="tables are read by pyarrow, on Linux alone"
)
MOST_GROWTH_MB = 20


@pytest.mark.parametrize("rows", [100_000, pytest.param(1_000_000, marks=pytest.mark.full)])
def test_private_memory_does_not_grow_with_the_rows(tmp_path: Path, rows: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.batch_memory", str(tmp_path), str(rows)],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}/service:{ROOT}/build", "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tenths = json.loads(done.stdout)
    assert min(tenths) > 0
    assert tenths[-1] - tenths[1] < MOST_GROWTH_MB, tenths
