from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from bundler.checks import UNIT, changes, imported, module_of, select

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "service/sidecar/__init__.py": "",
    "service/sidecar/errors.py": "",
    "service/sidecar/web/__init__.py": "",
    "service/sidecar/web/app.py": "from sidecar.web import routes",
    "service/sidecar/web/routes.py": "def f():\n    import sidecar.errors",
    "service/sidecar/text/cut.py": "",
    "build/bundler/cli.py": "import importlib",
    "build/bundler/commands/size.py": "from bundler.assembly import exclusions",
    "build/bundler/assembly/exclusions.py": "from sidecar.text.cut import cut",
    "build/bundler/alone.py": "",
    "tests/conftest.py": "",
    "tests/support/served.py": "from sidecar.web.app import app",
    "tests/unit/test_documents.py": "",
    "tests/unit/test_pipelines.py": "",
    "tests/unit/sidecar/test_errors.py": "",
    "tests/unit/sidecar/test_cli.py": "from tests.support import served",
    "tests/unit/sidecar/web/test_routes.py": "",
    "tests/unit/sidecar/web/test_app.py": "",
    "tests/unit/sidecar/text/conftest.py": "",
    "tests/unit/sidecar/text/test_cut.py": "",
    "tests/unit/bundler/test_commands.py": "from bundler.cli import main",
    "tests/unit/bundler/assembly/test_exclusions.py": "",
    "tests/unit/bundler/test_checks_areas.py": "",
}
DOCUMENTS = {"test_documents.py"}
BUILDER = {
    "test_pipelines.py",
    "bundler/test_commands.py",
    "bundler/assembly/test_exclusions.py",
    "bundler/test_checks_areas.py",
}
WEB = {"sidecar/test_cli.py", "sidecar/web/test_app.py", "sidecar/web/test_routes.py"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def chosen(root: Path, *paths: str) -> set[str]:
    found = select(root, paths)
    assert not found.everything_for
    return {test.removeprefix(f"{UNIT}/") for test in found.tests}


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        ("service/sidecar/web/routes.py", WEB | DOCUMENTS),
        (
            "service/sidecar/errors.py",
            {"sidecar/test_cli.py", "sidecar/test_errors.py"} | DOCUMENTS,
        ),
        (
            "service/sidecar/text/cut.py",
            {"sidecar/text/test_cut.py", "bundler/test_commands.py"} | DOCUMENTS,
        ),
        (
            "build/bundler/assembly/exclusions.py",
            {"bundler/assembly/test_exclusions.py", "bundler/test_commands.py"} | DOCUMENTS,
        ),
        ("build/bundler/commands/size.py", {"bundler/test_commands.py"} | DOCUMENTS),
        ("tests/support/served.py", {"sidecar/test_cli.py"} | DOCUMENTS),
        ("tests/unit/sidecar/web/test_app.py", {"sidecar/web/test_app.py"} | DOCUMENTS),
        ("tests/unit/sidecar/text/conftest.py", {"sidecar/text/test_cut.py"} | DOCUMENTS),
        ("tests/smoke/test_lean.py", {"bundler/test_checks_areas.py"} | DOCUMENTS),
        ("docs/api.md", DOCUMENTS),
        ("tests/surface.txt", DOCUMENTS),
        ("bundle/recipe.toml", BUILDER | DOCUMENTS),
        ("ci/fuzz", {"test_pipelines.py"} | DOCUMENTS),
        (".github/workflows/check.yml", {"test_pipelines.py"} | DOCUMENTS),
    ],
)
def test_change_selects_its_packages_tests_and_importers(
    root: Path, path: str, tests: set[str]
) -> None:
    assert chosen(root, path) == tests


def test_changes_add_up(root: Path) -> None:
    paths = ("service/sidecar/web/app.py", "tests/smoke/test_lean.py")
    assert chosen(root, *paths) == {"bundler/test_checks_areas.py"} | WEB | DOCUMENTS


@pytest.mark.parametrize(
    "path",
    [
        "pdm.lock",
        "pyproject.toml",
        "bundle/models.lock.toml",
        "tests/conftest.py",
        "tests/full.toml",
        "build/__main__.py",
        "build/bundler/alone.py",
        "service/sidecar/py.typed",
        "new/place.py",
    ],
)
def test_change_that_no_rule_maps_selects_everything(root: Path, path: str) -> None:
    found = select(root, ["docs/api.md", path])
    assert (found.tests, found.everything_for) == ((UNIT,), path)


def test_deleted_module_selects_what_still_imports_it(root: Path) -> None:
    (root / "service/sidecar/web/routes.py").unlink()
    assert chosen(root, "service/sidecar/web/routes.py") == WEB | DOCUMENTS


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("service/sidecar/web/app.py", "sidecar.web.app"),
        ("service/sidecar/web/__init__.py", "sidecar.web"),
        ("build/bench/run.py", "bench.run"),
        ("tests/support/aes.py", "tests.support.aes"),
        ("service/__main__.py", None),
        ("build/__main__.py", None),
        ("bundler/cli.py", None),
        ("service/sidecar/py.typed", None),
    ],
)
def test_path_names_a_module_of_ours_or_none(path: str, module: str | None) -> None:
    assert module_of(path) == module


def test_imports_count_wherever_they_are_and_only_ours() -> None:
    source = "import os, bench.run\ndef f():\n    from sidecar.web import app\nfrom . import x\n"
    assert imported(source) == {"bench.run", "sidecar.web", "sidecar.web.app"}


def git(root: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=N", "-c", "user.email=n@example.org", *words],
        cwd=root,
        check=True,
        capture_output=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    )


def commit(root: Path, name: str) -> None:
    (root / name).write_text(name, encoding="utf-8")
    git(root, "add", ".")
    git(root, "commit", "--message", name)


def test_changes_reach_from_the_branchs_start_to_the_working_tree(tmp_path: Path) -> None:
    git(tmp_path, "init", "--initial-branch", "main")
    commit(tmp_path, "base")
    git(tmp_path, "switch", "--create", "topic")
    commit(tmp_path, "committed")
    (tmp_path / "base").unlink()
    (tmp_path / "ümlaut").touch()
    found = changes(tmp_path)
    assert found is not None
    assert found.paths == ("base", "committed", "ümlaut")
    assert found.base.startswith("main (")


def test_without_a_main_branch_changes_are_what_differs_from_head(tmp_path: Path) -> None:
    git(tmp_path, "init", "--initial-branch", "other")
    commit(tmp_path, "base")
    found = changes(tmp_path)
    assert found is not None
    assert (found.paths, found.base.split()[0]) == ((), "HEAD")


def test_folder_without_git_has_no_known_changes(tmp_path: Path) -> None:
    assert changes(tmp_path) is None
