"""A release of this machine's own bundle: a dry run, the verifier by itself, a start, an update."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundler.targets import host_target
from tests.support import chroot
from tests.support.copies import linked, replace
from tests.support.lacking import lack

CHECKOUT = Path(__file__).parents[2]
TARGET = host_target().name
MOST = 2_000_000
# What a script says where a program or a key is missing.
USAGE = 2


def run(
    *words: str | Path, codes: tuple[int, ...] = (0,), **more: Any
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        encoding="utf-8",
        check=False,
        **{"cwd": CHECKOUT, **more},
    )
    assert done.returncode in codes, done.stdout + done.stderr
    return done


# A real release takes minutes; tests/unit/bundler/release has one in miniature.
pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dry run's release of the bundle for this machine."""
    folder = tmp_path_factory.mktemp("dry") / "release"
    options: list[str | Path] = ["--dry-run", "--target", TARGET, "--output", folder]
    done = run(sys.executable, CHECKOUT / "build", "release", *options)
    assert done.stdout == f"{folder}\n"
    return folder


def test_a_stranger_with_nothing_but_python_can_check_it(release: Path) -> None:
    done = run(sys.executable, "-I", release / "verify_sidecar.py", release)
    manifest = json.loads((next(release.glob("*.manifest.json"))).read_text(encoding="utf-8"))
    told = re.findall(rf"^ok: .* {TARGET} safe, plan (\w+)$", done.stdout, re.MULTILINE)
    assert len(told) >= 2
    assert set(told) == {manifest["plan"][:12]}


def test_what_is_unpacked_starts_and_gives_the_golden_vectors(release: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    done = run(CHECKOUT / "ci" / "launch-release", release, TARGET, env=environment)
    assert "ok: " in done.stdout


def test_a_bare_machine_without_a_network_can_check_it(release: Path) -> None:
    if why := chroot.obstacle():
        pytest.skip(why)
    done = run(CHECKOUT / "ci" / "verify-release", release, codes=(0, USAGE))
    if done.returncode == USAGE:
        lack(done.stderr.partition("\n")[0])
    assert "only its sha256 was compared" not in done.stdout
    assert "DIFFERS" not in done.stdout


def test_a_changed_line_of_the_service_moves_little(bundle: Path, tmp_path: Path) -> None:
    run(CHECKOUT / "ci" / "copy-checkout", tmp_path / "checkout")
    source = tmp_path / "checkout" / "service" / "sidecar" / "cli.py"
    replace(source, source.read_bytes() + b"\n# One line more.\n")
    after = linked(bundle, tmp_path / "after")
    build: list[str | Path] = [sys.executable, tmp_path / "checkout" / "build"]
    run(*build, "assemble", "--output", after)
    done = run(sys.executable, CHECKOUT / "build", "update-size", bundle, after, "--json")
    update: dict[str, Any] = json.loads(done.stdout)
    for kind in ("bundle", "image"):
        assert 0 < update[kind]["compressed"] < MOST
        moving = {part["name"] for part in update[kind]["parts"] if part["compressed"]}
        assert moving <= {"service", "papers", "top"}
