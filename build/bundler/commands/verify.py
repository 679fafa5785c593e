"""Compare a bundle with its manifest: every file's size and sha256, and that nothing is extra.

An archive of a bundle is unpacked beside itself for as long as it takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("path", type=Path, help="the bundle's folder, or its archive")


def run(options: argparse.Namespace, project: Project, console: Console) -> int:  # noqa: ARG001
    """Verify; say what was compared."""
    from bundler.parcel import receive  # noqa: PLC0415 - needs the environment
    from bundler.verify import verify  # noqa: PLC0415 - needs the environment

    check = receive if options.path.is_file() else verify
    with console.progress("checking") as progress:
        verified = check(options.path, progress)
    console.say(
        f"verified: {verified.files} files, {verified.size / 1e6:.0f} MB, "
        f"plan {verified.manifest.plan[:12]}, {verified.manifest.target}"
    )
    for finding in verified.manifest.unreleasable:
        console.say(f"not for release: {finding}")
    return 0
