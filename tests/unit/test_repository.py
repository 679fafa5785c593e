from __future__ import annotations

import ast
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
# Spelled in parts, so that this file is not found by itself.
REGISTRIES = (
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "registry.npmjs" + ".org",
    "deb." + "debian",
)
# Where this checkout lies, unless that is a path anybody might write.
MACHINE_PATHS = [str(ROOT)] if len(ROOT.parts) > 2 else []
TEXTS = {".py", ".toml", ".md", ".json", ".js", ".cjs", ".mjs", ".sh", ".yml", ".yaml", ""}


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Return every file that is, or with the next commit will be, in the repository."""
    found = git("ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if found.returncode:
        pytest.skip("this is no checkout of git")
    paths = [ROOT / name for name in found.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_the_builders_folder_is_no_package() -> None:
    assert not (ROOT / "build" / "__init__.py").exists()
    assert (ROOT / "build" / "__main__.py").is_file()


def test_every_ignored_name_is_anchored() -> None:
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    assert named
    assert [line for line in named if not line.startswith("/")] == []


def test_no_source_is_ignored(tracked: list[Path]) -> None:
    sources = {path for folder in ("build", "service") for path in (ROOT / folder).rglob("*.py")}
    sources |= set((ROOT / "bundle").glob("*.toml"))
    assert sources - set(tracked) == set()
    assert git("check-ignore", "build/bundler/new.py", "service/sidecar/new.py").stdout == ""
    assert git("check-ignore", "bundle/out/store").stdout == "bundle/out/store\n"


@pytest.mark.parametrize("word", [*REGISTRIES, *MACHINE_PATHS])
def test_nothing_names_a_registry_or_a_place_on_one_machine(tracked: list[Path], word: str) -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for path in tracked
        if path.suffix in TEXTS and word in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


@pytest.mark.parametrize("package", ["build/bench", "build/bundler", "service/sidecar"])
def test_a_public_class_of_a_package_has_a_name_of_its_own(package: str) -> None:
    places: dict[str, list[str]] = {}
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name[0] != "_":
                places.setdefault(node.name, []).append(path.name)
    assert len(places) > 10
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_checkers_before_a_commit_have_the_versions_of_the_group_dev() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pinned = {entry for entry in project["dependency-groups"]["dev"] if "==" in entry}
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    used = {
        package
        for repository in hooks["repos"]
        for hook in repository["hooks"]
        for package in hook.get("additional_dependencies", ())
    }
    assert all("==" in package for package in used)
    assert {package for package in used if package.startswith("ruff")} < pinned


def test_development_group_brings_no_torch() -> None:
    lock = tomllib.loads((ROOT / "pdm.lock").read_text(encoding="utf-8"))
    light = {package["name"] for package in lock["package"] if "dev" in package["groups"]}
    assert not light & {"torch", "transformers", "sentence-transformers"}
    assert light >= {"pytest", "ruff", "mypy", "safetensors", "onnx"}
