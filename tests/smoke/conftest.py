"""The bundle that the smoke tests look at: this machine's own, assembled once for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def bundle() -> Path:
    """Return a whole bundle: the one that SIDECAR_BUNDLE names, or else what `assemble` makes.

    What is there already is reused after its hashes were checked.
    """
    given = os.environ.get("SIDECAR_BUNDLE")
    if given:
        return Path(given).resolve()
    done = subprocess.run(
        [sys.executable, CHECKOUT / "build", "assemble"],
        cwd=CHECKOUT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        pytest.fail(f"no bundle could be assembled, exit code {done.returncode}\n{done.stderr}")
    return Path(done.stdout.strip())
