"""What the small scripts in ci/ do, with small things."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
PAPERS = ("manifest.json", "sbom.cdx.json", "NOTICES.txt")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


def run(
    script: str,
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "ci" / script), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return a release and a bundle that agree."""
    release, bundle = tmp_path / "release", tmp_path / "bundle"
    release.mkdir()
    bundle.mkdir()
    for paper in PAPERS:
        (bundle / paper).write_text(f"{paper}\n", encoding="utf-8")
        (release / f"sidecar-0.1.0-linux-x64.{paper}").write_text(f"{paper}\n", encoding="utf-8")
    return release, bundle


def test_equal_bundles_are_the_same(pair: tuple[Path, Path]) -> None:
    done = run("compare-bundle", *pair, "linux-x64")
    assert (done.returncode, done.stdout) == (
        0,
        "linux-x64 is the same, wherever it is assembled\n",
    )


@pytest.mark.parametrize("paper", PAPERS)
def test_bundles_that_differ_exit_8(pair: tuple[Path, Path], paper: str) -> None:
    (pair[1] / paper).write_text("other\n", encoding="utf-8")
    done = run("compare-bundle", *pair, "linux-x64")
    assert done.returncode == 8
    assert f"error: {paper} of linux-x64 depends on where it was made" in done.stderr


def test_a_target_that_the_release_lacks_is_no_match(pair: tuple[Path, Path]) -> None:
    assert run("compare-bundle", *pair, "win-x64").returncode == 8


@pytest.mark.parametrize("script", ["bootstrap", "compare-bundle", "launch-release", "propose"])
def test_a_script_without_its_arguments_exits_2(script: str) -> None:
    done = run(script)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: ci/{script} ")


@pytest.fixture
def recorded(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose package tools print what they are asked for."""
    (tmp_path / "bin").mkdir()
    for name in ("mmdebstrap", "apt-get"):
        (tmp_path / "bin" / name).write_text('#!/bin/sh\necho "$0" "$@" >&2\n', encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def test_a_missing_keyring_exits_2_and_is_named(tmp_path: Path, recorded: dict[str, str]) -> None:
    # A suite that apt has no source for, as on Ubuntu.
    options: list[str | Path] = [
        "--suite",
        "no-such-suite",
        "--keyring",
        tmp_path / "debian.gpg",
        "amd64",
    ]
    done = run("base", "--output", tmp_path / "base.tar", *options, env=recorded)
    assert done.returncode == 2
    assert f"why: {tmp_path / 'debian.gpg'} is missing" in done.stderr
    assert "next: apt-get install debian-archive-keyring" in done.stderr
    assert "mmdebstrap --" not in done.stderr


def test_debians_own_packages_are_checked_by_debians_keyring(
    tmp_path: Path, recorded: dict[str, str]
) -> None:
    keyring = tmp_path / "debian.gpg"
    keyring.touch()
    arguments: list[str | Path] = [
        "--keyring",
        keyring,
        "no-such-suite",
        tmp_path / "root.tar",
        "--include=zstd",
    ]
    done = run("bootstrap", *arguments, env=recorded)
    assert done.returncode == 0
    assert f"--keyring={keyring} --include=zstd no-such-suite {tmp_path}/root.tar" in done.stderr
    sources = tmp_path / "mirror.sources"
    named = run("bootstrap", "--sources", sources, *arguments, env=recorded)
    assert "--keyring=" not in named.stderr
    assert named.stderr.endswith(f" {sources}\n")


def test_the_tools_of_a_release_bring_debians_keyring(recorded: dict[str, str]) -> None:
    done = run("install-tools", env=recorded)
    assert done.returncode == 0
    wanted = {"mmdebstrap", "debian-archive-keyring", "uidmap"}
    assert wanted < set(done.stderr.splitlines()[-1].split())


ENCODER = """
import base64, json, os, struct
class SentenceTransformer:
    def __init__(self, *names, **more):
        golden = json.load(open(os.environ["GOLDEN"], encoding="utf-8"))
        self.asked = names, more
        rows = map(base64.b64decode, golden["vectors"])
        self.rows = {text: struct.unpack("<384f", row) for text, row in zip(golden["texts"], rows)}
    def encode(self, texts, normalize_embeddings):
        assert normalize_embeddings
        (text,) = texts
        row = self.rows[text]
        return [row[::-1] if text == os.environ["WRONG"] else row]
"""
LIBRARIES = ("sentence-transformers", "transformers", "tokenizers", "torch")


@pytest.mark.parametrize(("wrong", "code"), [("none", 0), ("harbour", 8)])
def test_golden_vectors_are_held_against_another_version(
    tmp_path: Path, wrong: str, code: int
) -> None:
    # Another version of sentence-transformers, which gives the golden vectors but for one text.
    (tmp_path / "sentence_transformers.py").write_text(ENCODER, encoding="utf-8")
    for name in LIBRARIES:
        folder = tmp_path / f"{name.replace('-', '_')}-1.2.3.dist-info"
        folder.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n"
        (folder / "METADATA").write_text(metadata, encoding="utf-8")
    environment = {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(tmp_path),
        "GOLDEN": str(ROOT / "bundle" / "golden" / "minilm.json"),
        "WRONG": wrong,
    }
    done = run("count", "golden", "minilm", tmp_path, env=environment)
    assert done.returncode == code, done.stderr
    assert "here:   sentence-transformers 1.2.3, tokenizers 1.2.3" in done.stdout
    assert "83 texts, worst cosine " in done.stdout
    assert (f": {wrong!r}" in done.stdout) == bool(code)


def test_a_model_without_golden_vectors_is_told_of() -> None:
    done = run("count", "golden", "no-such-model")
    assert done.returncode == 2
    assert "next: python3 build lock --models no-such-model" in done.stderr


GH = """#!/bin/sh
echo "$@" >>"$GH_LOG"
case "$2" in
list) echo "${GH_OPEN:-0}" ;;
create) [ -z "${GH_REFUSAL:-}" ] || { echo "$GH_REFUSAL" >&2; exit 1; } ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout with a remote, a script, and a `gh` that only records."""
    root = tmp_path / "checkout"
    (root / "ci").mkdir(parents=True)
    shutil.copy(ROOT / "ci" / "propose", root / "ci" / "propose")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH, encoding="utf-8")
    (tmp_path / "bin" / "gh").chmod(0o755)
    remote = tmp_path / "remote"
    subprocess.run(["git", "init", "--quiet", "--bare", remote], check=True)
    for arguments in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "-qnm", "First"],
        ["remote", "add", "origin", str(remote)],
    ):
        subprocess.run(["git", "-C", root, *arguments], check=True)
    return root


def propose(checkout: Path, **more: str) -> tuple[subprocess.CompletedProcess[str], str]:
    folder = checkout.parent
    log = folder / "gh.log"
    done = subprocess.run(
        [checkout / "ci" / "propose", "refresh-locks", "Refresh the locks", folder / "body.md"],
        env={
            **{name: value for name, value in os.environ.items() if name[:4] != "GIT_"},
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "GH_LOG": str(log),
            **more,
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return done, log.read_text(encoding="utf-8") if log.exists() else ""


def test_nothing_is_proposed_where_nothing_changed(checkout: Path) -> None:
    done, log = propose(checkout)
    assert (done.returncode, done.stdout, log) == (0, "nothing changed\n", "")


@pytest.mark.parametrize(("open_ones", "verb"), [("0", "create"), ("1", "edit")])
def test_a_change_is_pushed_and_proposed_once(checkout: Path, open_ones: str, verb: str) -> None:
    (checkout / "pdm.lock").write_text("new\n", encoding="utf-8")
    done, log = propose(checkout, GH_OPEN=open_ones)
    assert done.returncode == 0, done.stderr
    assert f"pr {verb} " in log
    branches = subprocess.run(
        ["git", "-C", checkout.parent / "remote", "branch", "--list"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert branches.stdout.split() == ["refresh-locks"]


NOT_PERMITTED = (
    "pull request create failed: GraphQL: GitHub Actions is not permitted to create or approve "
    "pull requests (createPullRequest)"
)


@pytest.mark.parametrize(("refusal", "code"), [(NOT_PERMITTED, 7), ("HTTP 502", 1)])
def test_a_refused_proposal_says_what_to_allow_and_leaves_the_branch(
    checkout: Path, refusal: str, code: int
) -> None:
    (checkout / "pdm.lock").write_text("new\n", encoding="utf-8")
    done, _ = propose(checkout, GH_REFUSAL=refusal)
    assert done.returncode == code
    assert refusal in done.stderr
    assert ("Allow GitHub Actions to create and approve pull requests" in done.stderr) == (
        code == 7
    )
    assert "the branch refresh-locks is pushed" in done.stderr
