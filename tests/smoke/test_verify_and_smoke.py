"""The two commands that judge a bundle, on one that is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("command", "said"),
    [("verify", "verified: "), ("smoke", "stopped with 0, not a byte changed")],
)
def test_it_ends_with_0_and_says_what_it_saw(bundle: Path, command: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "build", command, str(bundle)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
