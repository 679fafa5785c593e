"""Renames that Windows refuses for a moment: a virus scanner holds what was just written.

A file that any program has open cannot be renamed there, nor a folder that holds one, and scanners
open every new file (errors 5, access denied, and 32, sharing violation; Python raises
PermissionError for both). Elsewhere a refusal is final. Not run on Windows; the tests simulate what
it refuses.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Seconds between two tries, ten in all.
PAUSES: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.75, 1, 1.5, 2, 2, 2) if os.name == "nt" else ()


def rename(source: Path, target: Path) -> None:
    """Give `source` the name `target`, which Windows wants to be free. Raises OSError."""
    _patiently(lambda: source.rename(target))


def replace(source: Path, target: Path) -> None:
    """Give the file `source` the name `target`, and take a file's place there. Raises OSError."""
    _patiently(lambda: source.replace(target))


def _patiently(act: Callable[[], object]) -> None:
    for pause_s in PAUSES:
        with contextlib.suppress(PermissionError):
            act()
            return
        time.sleep(pause_s)
    act()
