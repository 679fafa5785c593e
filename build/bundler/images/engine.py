"""The container engine of this machine, if there is one: Docker or Podman."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from bundler.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

ENGINES = ("docker", "podman")
ANSWER_SECONDS = 20
# A name and a tag as the distribution specification spells them.
_WORD = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?{_WORD}(?:/{_WORD})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
)


def full_name(name: str) -> str:
    """Return `name` with its tag, `latest` if it has none. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for an image", next_step="pass --tag NAME or NAME:TAG, lower case"
        )
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def engine() -> str | None:
    """Return the program of an engine that answers, or None."""
    for name in ENGINES:
        program = shutil.which(name)
        if program is None:
            continue
        try:
            done = subprocess.run(
                [program, "info"], capture_output=True, check=False, timeout=ANSWER_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return program
    return None


def load(program: str, archive: Path) -> None:
    """Give the engine `program` the image in `archive`. Raises UnreachableError."""
    done = subprocess.run(
        [program, "load", "--input", str(archive)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise UnreachableError(
            f"{program} did not take {archive.name}",
            why=done.stderr.strip() or f"it ended with {done.returncode}",
            next_step=f"{program} load --input {archive} shows it again; the archive is whole",
        )
