"""The pipelines: well formed, least in rights, and with no logic that does not run here, too."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from bundler.cli import COMMANDS
from bundler.recipe import read_recipe
from tests.support.lacking import lack

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = sorted(
    path for path in (ROOT / "ci").rglob("*") if path.is_file() and path.suffix != ".md"
)
ACTIONS = tomllib.loads((ROOT / ".github" / "actions.toml").read_text(encoding="utf-8"))
USES = re.compile(r"^\s*-? ?uses: (\S+)@([0-9a-f]{40}) # (v[\d.]+)$")
# The rights that a job may have beyond reading, and the jobs that have them.
WRITERS = {
    "release.attest": {"id-token", "attestations"},
    "release.draft": {"contents"},
    "refresh.locks": {"contents", "pull-requests"},
}


def named(path: Path) -> str:
    return path.name


def workflow(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def jobs() -> dict[str, dict[str, Any]]:
    """Return every job by its workflow's and its own name."""
    return {
        f"{path.stem}.{name}": job
        for path in WORKFLOWS
        for name, job in workflow(path)["jobs"].items()
    }


def steps() -> list[tuple[str, str]]:
    """Return every line that a job runs, with the job's name."""
    return [
        (name, step["run"])
        for name, job in jobs().items()
        for step in job["steps"]
        if "run" in step
    ]


def tool(name: str) -> str:
    """Return a checker, out of this environment or from anywhere."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which(name, path=places) or lack(f"{name} is not installed")


def check(*arguments: str | Path, text: str | None = None) -> None:
    done = subprocess.run(
        [str(argument) for argument in arguments],
        input=text,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_has_the_form_that_github_reads(path: Path) -> None:
    schema = "vendor.github-workflows"
    check(tool("check-jsonschema"), "--builtin-schema", schema, path)


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_has_no_rights_of_its_own_and_runs_once_at_a_time(path: Path) -> None:
    document = workflow(path)
    assert document["permissions"] == {}
    assert "group" in document["concurrency"]


def test_every_job_ends_and_may_write_what_it_has_to_alone() -> None:
    for name, job in jobs().items():
        assert job["timeout-minutes"] <= 180, name
        rights = job["permissions"]
        writes = {right for right, kind in rights.items() if kind == "write"}
        assert writes == WRITERS.get(name, set()), name
        assert set(rights.values()) <= {"read", "write"}


def test_jobs_that_write_run_nothing_of_the_tag() -> None:
    for name in ("release.attest", "release.draft"):
        used = [step.get("uses", "") for step in jobs()[name]["steps"]]
        assert not any("checkout" in action for action in used), name


def test_credentials_stay_only_where_something_is_pushed() -> None:
    for name, job in jobs().items():
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                keeps = step["with"]["persist-credentials"]
                assert keeps is (name == "refresh.locks"), name


def test_every_action_is_pinned_by_a_commit_whose_source_is_named() -> None:
    found = set()
    for path in WORKFLOWS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                match = USES.match(line)
                assert match, line
                name, commit, version = match.groups()
                found.add(name)
                assert (ACTIONS[name]["commit"], ACTIONS[name]["version"]) == (commit, version)
    assert found == set(ACTIONS)
    assert all(re.search(r" [0-9a-f]{40} \S+\.yml$", one["source"]) for one in ACTIONS.values())


def test_nothing_from_outside_is_pasted_into_a_shell() -> None:
    assert [line for _, line in steps() if "${{" in line] == []


def test_steps_run_commands_and_scripts_that_exist() -> None:
    commands = {command.name for command in COMMANDS}
    for name, line in steps():
        words = shlex.split(line)
        for word in words:
            if word.startswith("ci/"):
                assert os.access(ROOT / word, os.X_OK), f"{name}: {word}"
        if words[:2] in (["python3", "build"], ["python", "build"]):
            assert words[2] in commands, f"{name}: {line}"


def test_options_of_our_commands_exist() -> None:
    for name, line in steps():
        words = shlex.split(line)
        if words[:2] in (["python3", "build"], ["python", "build"]) and words[2] != "test":
            done = subprocess.run(
                [sys.executable, ROOT / "build", words[2], "--help"],
                capture_output=True,
                encoding="utf-8",
                check=True,
            )
            for word in words:
                assert not word.startswith("--") or word in done.stdout, f"{name}: {word}"


def test_what_is_assembled_again_is_the_model_that_a_release_carries() -> None:
    (line,) = [line for name, line in steps() if name == "release.native" and "assemble" in line]
    assert f"--model {read_recipe(ROOT / 'bundle' / 'recipe.toml').release_model}" in line


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_script_passes_shellcheck_and_stops_at_failures(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in text
    called = f"ci/count {path.name}" if path.parent.name == "counts" else f"ci/{path.name}"
    assert called in text.partition("\nset ")[0], "its head says how it is called"
    check(tool("shellcheck"), path)


@pytest.mark.parametrize(("name", "line"), steps())
def test_a_step_passes_the_shells_checker(name: str, line: str) -> None:
    assert name
    check(tool("shellcheck"), "--shell", "bash", "-", text=line)


def test_the_dockerfile_passes_its_checker() -> None:
    check(tool("hadolint"), ROOT / "Dockerfile")
