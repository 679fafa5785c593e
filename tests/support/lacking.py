"""What a test does without a program that it needs: skip, or fail where that has to be there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

TOO_OLD = ("2.7", "3.6", "3.8")
OTHERS = ("3.9", "3.10", "3.12", "3.13")


def lack(reason: str) -> NoReturn:
    """Skip for `reason`; fail where the pipeline says that everything has to be there."""
    if os.environ.get("SIDECAR_TOOLS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def other_python(version: str) -> Path:
    """Return a Python of this version, pyenv's or on PATH; skip the test where there is none."""
    found = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        found.append(Path(on_path))
    for python in found:
        done = subprocess.run([python, "-c", ""], check=False, capture_output=True)
        if done.returncode == 0:
            return python
    pytest.skip(f"there is no Python {version} on this machine")
