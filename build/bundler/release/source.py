"""Which commit a checkout is of, and whether it is that commit."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checkout: its commit, if git knows one, and why a release cannot be made of it, if so."""

    commit: str | None
    findings: tuple[str, ...] = ()


def read_source(root: Path) -> Source:
    """Return what git says of the checkout at `root`, and of no other around it."""
    commit = _git(root, "rev-parse", "HEAD")
    top = _git(root, "rev-parse", "--show-toplevel")
    if not commit or top is None or Path(top).resolve() != root.resolve():
        return Source(commit=None, findings=("the sources are no checkout of git",))
    if _git(root, "status", "--porcelain"):
        return Source(commit=commit, findings=("the checkout has changes that no commit holds",))
    return Source(commit=commit)


def _git(root: Path, *arguments: str) -> str | None:
    # A hook of another repository that runs this has variables which name that one.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],  # noqa: S607 - git is wherever it is
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()
