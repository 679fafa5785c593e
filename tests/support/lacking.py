"""What a test does without a program that it needs: skip, or fail where that has to be there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lack(reason: str) -> NoReturn:
    """Skip for `reason`; fail where the pipeline says that everything has to be there."""
    if os.environ.get("SIDECAR_TOOLS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
