from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bundler import atomic
from bundler.archive import write_tar_zst
from bundler.artifacts.store import Store
from bundler.assembly.assemble import assemble
from bundler.console import Progress
from bundler.errors import DiskError, PolicyError, VerificationError
from bundler.verify import verify
from tests.support import assembler
from tests.support.miniature import EPOCH, Miniature, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A bundle, and the archive of it, that nothing disturbed."""

    tree: dict[str, tuple[str, int, float]]
    archive: bytes


def changed(miniature: Miniature) -> None:
    miniature.write_service("sidecar/cli.py", "def main() -> int:\n    return 1\n")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("undisturbed")
    miniature = Miniature.make(root / "project")
    changed(miniature)
    miniature.assemble(root / "bundle")
    write_tar_zst(root / "bundle", root / "bundle.tar.zst", epoch=EPOCH)
    return Finished(tree=snapshot(root / "bundle"), archive=(root / "bundle.tar.zst").read_bytes())


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    return Miniature.make(tmp_path / "project")


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return tmp_path / "made" / "bundle"


def beside(destination: Path) -> list[str]:
    return sorted(path.name for path in destination.parent.iterdir())


def check_finished(miniature: Miniature, destination: Path, undisturbed: Finished) -> None:
    assert snapshot(destination) == undisturbed.tree
    assert beside(destination) == ["bundle", "bundle.build-report.json", "bundle.tar.zst"]
    packed = destination.with_name("bundle.tar.zst")
    assert packed.read_bytes() == undisturbed.archive
    assert list((miniature.project.store / "partial").iterdir()) == []


@pytest.mark.parametrize("name", atomic.CHECKPOINTS)
@pytest.mark.parametrize("is_first", [True, False], ids=["new", "over an old one"])
def test_build_killed_anywhere_ends_well_when_run_again(
    miniature: Miniature, destination: Path, undisturbed: Finished, name: str, is_first: bool
) -> None:
    if is_first and name == "assemble.aside":
        pytest.skip("nothing is set aside where nothing was")
    old = None
    if not is_first:
        miniature.assemble(destination)
        old = snapshot(destination)
    changed(miniature)
    killed = assembler.run(miniature, destination, "--die-at", name)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # Whoever looks now sees the old bundle, none, or the new one; never a part of one.
    if destination.exists():
        assert snapshot(destination) in (old, undisturbed.tree)
    again = assembler.run(miniature, destination)
    assert again.returncode == 0, again.stderr
    check_finished(miniature, destination, undisturbed)


@pytest.mark.parametrize("times", [2, 3, 4])
def test_a_build_killed_at_a_later_component_or_download_starts_over(
    miniature: Miniature, destination: Path, undisturbed: Finished, times: int
) -> None:
    changed(miniature)
    for name in ("store.partial", "store.commit", "assemble.component"):
        options = ("--die-at", name, "--times", str(times))
        killed = assembler.run(miniature, destination, *options)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not destination.exists()
    assert assembler.run(miniature, destination).returncode == 0
    check_finished(miniature, destination, undisturbed)


def test_fetching_assembling_and_packing_reach_checkpoints(
    miniature: Miniature, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    monkeypatch.setattr(atomic, "_listeners", [])
    atomic.listen(reached.append)
    miniature.fetch(Store(miniature.project.store))
    miniature.assemble(destination)
    changed(miniature)
    miniature.assemble(destination)
    write_tar_zst(destination, destination.with_name("bundle.tar.zst"), epoch=EPOCH)
    assert set(reached) == set(atomic.CHECKPOINTS)
    assert reached.count("assemble.component") == 5 + 1


def test_old_bundle_is_back_after_a_killed_publish(miniature: Miniature, destination: Path) -> None:
    miniature.assemble(destination)
    old = snapshot(destination)
    changed(miniature)
    killed = assembler.run(miniature, destination, "--die-at", "assemble.aside")
    assert killed.returncode == -signal.SIGKILL
    assert not destination.exists()
    planned = miniature.plan()
    miniature.write_service("notes.txt", "not Python\n")
    with pytest.raises(PolicyError):
        assemble(planned, miniature.gather, destination, Progress())
    assert snapshot(destination) == old
    assert beside(destination) == ["bundle", "bundle.build-report.json"]


def test_what_a_living_run_has_beside_the_bundle_is_left_alone(
    miniature: Miniature, destination: Path, undisturbed: Finished
) -> None:
    changed(miniature)
    slow = subprocess.Popen(
        [
            *(sys.executable, "-B", "-m", "tests.support.assembler"),
            *(str(miniature.root), str(destination), "--stop-at", "assemble.merged"),
        ],
        cwd=assembler.CHECKOUT,
        env=assembler.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert slow.stdout is not None
    assert slow.stdin is not None
    assert slow.stdout.readline() == "assemble.merged\n"
    stage = [name for name in beside(destination) if name.startswith(".sidecar-stage-")]
    assert len(stage) == 1
    miniature.assemble(destination)
    assert beside(destination) == [*stage, "bundle", "bundle.build-report.json"]
    slow.communicate("go on\n")
    assert slow.returncode == 0
    check_finished(miniature, destination, undisturbed)


def test_two_runs_at_once_on_one_place_leave_one_whole_bundle(
    miniature: Miniature, destination: Path, undisturbed: Finished
) -> None:
    for round_ in range(2):
        profiles = ("none", "safe") if round_ else ("safe", "safe")
        changed(miniature)
        runs = [
            assembler.start(miniature, destination, "--profile", profile) for profile in profiles
        ]
        for run in runs:
            _, errors = run.communicate()
            # Packing reads the bundle by its path, which the other run may just have renewed.
            assert run.returncode in (0, VerificationError.exit_code, 6), errors
        verify(destination, Progress())
        assert [name for name in beside(destination) if name.startswith(".sidecar")] == []
        miniature.assemble(destination)
        assert snapshot(destination) == undisturbed.tree
        shutil.rmtree(destination)


def test_a_bundle_renewed_while_it_is_taken_over_makes_the_run_begin_again(
    miniature: Miniature, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = destination.with_name("other")
    miniature.assemble(destination)
    miniature.assemble(other, profile="none")
    changed(miniature)
    swapped: list[Path] = []

    def listener(name: str) -> None:
        if name == "assemble.component" and not swapped:
            swapped.append(destination.rename(destination.with_name("gone")))
            other.rename(destination)

    monkeypatch.setattr(atomic, "_listeners", [listener])
    miniature.asked.clear()
    assembled = miniature.assemble(destination)
    assert len(miniature.asked) == 2
    # The diet's other profile touches one component; what the first try made is made again.
    assert assembled.made == ("packages", "service")
    verify(destination, Progress())


def allocated(root: Path) -> int:
    return sum(
        4096 if path.is_dir() else -(-path.stat().st_size // 4096) * 4096
        for path in [root, *root.rglob("*")]
    )


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_disk_full_at_any_tenth_ends_in_exit_6_and_leaves_nothing(
    miniature: Miniature, destination: Path, small_disk: Callable[[int], Path], tenth: int
) -> None:
    miniature.assemble(destination)
    files = sum(1 for path in destination.rglob("*") if path.is_file()) * 4096
    disk = small_disk(max(files, allocated(destination) // 2) * tenth // 10)
    with pytest.raises(DiskError) as caught:
        miniature.assemble(disk / "bundle")
    assert caught.value.exit_code == 6
    assert list(disk.iterdir()) == []


def test_a_disk_too_full_for_a_change_keeps_the_old_bundle(
    miniature: Miniature, destination: Path, small_disk: Callable[[int], Path]
) -> None:
    miniature.assemble(destination)
    disk = small_disk(allocated(destination) + 16 * 4096)
    miniature.assemble(disk / "bundle")
    old = snapshot(disk / "bundle")
    miniature.write_service("sidecar/cli.py", f"TEXT = {'x' * 200_000!r}\n")
    with pytest.raises(DiskError):
        miniature.assemble(disk / "bundle")
    assert snapshot(disk / "bundle") == old
    assert beside(disk / "bundle") == ["bundle", "bundle.build-report.json"]


def test_a_read_only_place_ends_in_exit_6(
    miniature: Miniature, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(1 << 20)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(DiskError, match="cannot be written"):
        miniature.assemble(disk / "bundle")


def test_the_process_says_where_it_left_the_bundle(miniature: Miniature, destination: Path) -> None:
    done = assembler.run(miniature, destination)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"manifest", "archive"}
