"""Scripts run by Node, and the app that electron-builder packages in tests."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from bundler.project import Project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCES = Project.here().root / "tests" / "support" / "electron-app"


def node(*arguments: str | os.PathLike[str]) -> str:
    """Run a script that must succeed, and return what it printed."""
    return ran(arguments, check=True).stdout


def ran(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    check: bool = False,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a script by Node."""
    return subprocess.run(
        ["node", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=check,
        env={**os.environ, **(environment or {})},
    )
