"""Fetches, assembles and packs a miniature as a process of its own, which can be made to die.

python -m tests.support.assembler ROOT DESTINATION [--die-at CHECKPOINT] [--times N] ...
Prints the sha256 of the manifest and of the archive that it packs beside the destination.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bundler import atomic
from bundler.archive import write_tar_zst
from bundler.artifacts.store import Store
from bundler.assembly import assemble as assembling
from bundler.console import Progress
from bundler.digests import Digest
from bundler.errors import BundlerError
from sidecar.manifest import MANIFEST
from tests.support.miniature import EPOCH, Miniature
from tests.support.modeless import forget_modes

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).parents[2]


def run(
    miniature: Miniature, destination: Path, *options: str, changes: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run this program to its end, and return how that was."""
    process = start(miniature, destination, *options, changes=changes)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def start(
    miniature: Miniature, destination: Path, *options: str, changes: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start this program, with `changes` in its environment."""
    return subprocess.Popen(
        [
            sys.executable,
            "-B",
            *("-m", "tests.support.assembler"),
            *(str(miniature.root), str(destination), *options),
        ],
        cwd=CHECKOUT,
        env=environment(changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
    )


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment that this program runs in; PYTHONPATH of `changes` is added."""
    paths = [str(CHECKOUT), str(CHECKOUT / "build"), str(CHECKOUT / "service")]
    changed = {**os.environ, "PYTHONPATH": "", **(changes or {})}
    return {**changed, "PYTHONPATH": os.pathsep.join([*paths, changed["PYTHONPATH"]])}


def die_at(name: str, times: int) -> None:
    """Kill this process the moment it comes to the checkpoint `name` for the `times`-th time."""
    left = times

    def listener(reached: str) -> None:
        nonlocal left
        left -= reached == name
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    atomic.listen(listener)


def stop_at(name: str) -> None:
    """Say so and wait for a line whenever the checkpoint `name` is reached."""

    def listener(reached: str) -> None:
        if reached == name:
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()
            sys.stdin.readline()

    atomic.listen(listener)


def main() -> int:
    """Do as the command line says; return 0, or the exit code of the failure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--die-at", choices=atomic.CHECKPOINTS)
    parser.add_argument("--stop-at", choices=atomic.CHECKPOINTS)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--umask", type=lambda text: int(text, 8), default=0o022)
    parser.add_argument("--modeless", type=lambda text: int(text, 8), metavar="BITS")
    parser.add_argument("--profile", default="safe")
    options = parser.parse_args()
    os.umask(options.umask)
    if options.modeless is not None:
        forget_modes(options.modeless)
    if options.die_at:
        die_at(options.die_at, options.times)
    if options.stop_at:
        stop_at(options.stop_at)
    miniature = Miniature(root=options.root)
    packed = options.destination.with_name(f"{options.destination.name}.tar.zst")
    try:
        fetched = miniature.fetch(Store(miniature.project.store))
        assembling.assemble(
            miniature.plan(profile=options.profile),
            lambda _: fetched,
            options.destination,
            Progress(),
        )
        write_tar_zst(options.destination, packed, epoch=EPOCH)
    except BundlerError as error:
        sys.stderr.write(f"{error.render()}\n")
        return error.exit_code
    manifest = Digest.of_file(options.destination / MANIFEST).sha256
    json.dump({"manifest": manifest, "archive": Digest.of_file(packed).sha256}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
