"""The Node package for Electron apps, by its own tests, with the sidecar of a real bundle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from bundler.project import Project
from tests.smoke.conftest import bundle
from tests.support.lacking import lack

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["bundle"]

PROJECT = Project.here()
PACKAGE = PROJECT.root / "bundle" / "electron"
SUITES = sorted(path.name for path in (PACKAGE / "test").glob("*.test.js"))
OLDEST = 18
# No suite takes so long; one that hangs must not hold back the others.
MAX_SECONDS = 600.0
SKIPPED = re.compile(r"# SKIP (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def node() -> str:
    """Return the path of Node."""
    path = shutil.which("node")
    if path is None:
        lack("Node is not installed here")
    asked = subprocess.run([path, "--version"], capture_output=True, encoding="utf-8", check=True)
    if int(asked.stdout.removeprefix("v").partition(".")[0]) < OLDEST:
        lack(f"Node is {asked.stdout.strip()}, and the package needs {OLDEST}")
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the package with what its tests need, as far as npm can fetch that."""
    copy = tmp_path_factory.mktemp("package") / "electron"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("node_modules", "builder"))
    npm = shutil.which("npm")
    if npm is not None:
        # Without them some tests skip, each with its reason.
        subprocess.run([npm, "ci", "--ignore-scripts"], cwd=copy, capture_output=True, check=False)
    return copy


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_of_the_node_package_passes(
    node: str, package: Path, bundle: Path, suite: str
) -> None:
    shots = PROJECT.out / "screenshots"
    environment = os.environ | {
        "SIDECAR_BUNDLE": str(bundle),
        "SIDECAR_CHECKOUT": str(PROJECT.root),
        "SIDECAR_SCREENSHOTS": str(shots),
    }
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", f"test/{suite}"],
        cwd=package,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=MAX_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE), done.stdout
    if reasons := sorted(set(SKIPPED.findall(done.stdout))):
        lack(f"the others passed; {'; '.join(reasons)}")


def test_there_are_suites() -> None:
    assert {"service.test.js", "client.test.js", "embedder.test.js", "real.test.js"} <= set(SUITES)
