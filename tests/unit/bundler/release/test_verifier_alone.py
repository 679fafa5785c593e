"""The verifier by itself: what it is written in, and where it runs."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.release.contents import VERIFIER
from tests.support.released import Released


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return Released.make(tmp_path_factory.mktemp("released"))


def test_it_is_written_for_python_3_8_and_its_standard_library(released: Released) -> None:
    text = (released.folder / VERIFIER).read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))


def pythons() -> list[str]:
    """Return the oldest and the newest interpreter that this machine has."""
    found = [shutil.which(f"python3.{minor}") for minor in range(8, 20)]
    kept = Path.home() / ".pyenv/versions"
    found += [str(path) for path in sorted(kept.glob("3.*/bin/python3")) if kept.is_dir()]
    works = {}
    for path in filter(None, found):
        code = "import sys, zlib; print(*map(chr, sys.version_info[:2]), sep='')"
        done = subprocess.run([path, "-I", "-c", code], capture_output=True, check=False)
        if not done.returncode and done.stdout.decode() >= "\3\x08":
            works[done.stdout] = path
    return [works[min(works)], works[max(works)]] if works else []


def test_it_runs_by_itself_in_every_python_that_is_here(released: Released) -> None:
    for python in {*(pythons() or [sys.executable])}:
        done = subprocess.run(
            [python, "-I", str(released.folder / VERIFIER), str(released.folder)],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), python
        assert done.stdout.count("ok: ") == 5
