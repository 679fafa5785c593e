"""Compare a bundle with its manifest: size and sha256 of every file, and no other files.

Takes a bundle's folder, a .tar.zst, a .zip, the first of their parts, an image archive, or the
folder of a release. Archives are read in place.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bundler.bundle import require_bundle
from bundler.errors import UsageError, printable

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a bundle, an archive of it, or a release")


def check(options: argparse.Namespace, project: Project) -> None:  # noqa: ARG001
    """Refuse a path where there is neither a bundle nor anything made of one."""
    from bundler.release.verify_sidecar import ARCHIVES

    path: Path = options.path
    if _is_of_a_release(path):
        return
    if path.is_file():
        raise UsageError(
            f"there is no bundle in {path}",
            why=f"its name is not that of an archive: {', '.join(ARCHIVES)}, or the first part of "
            "one, .001",
            next_step="name one, or a bundle's folder: python3 build assemble makes it",
        )
    require_bundle(path)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:  # noqa: ARG001
    """Verify; say what was compared."""
    from bundler.release import contents
    from bundler.verify import verify

    path: Path = options.path
    with console.progress("checking") as progress:
        if _is_of_a_release(path):
            for report in contents.check_written(path, progress):
                for line in report.lines():
                    console.say(line)
            return 0
        verified = verify(path, progress)
    seen = verified.manifest
    size = f"{verified.files} files, {verified.size / 1e6:.0f} MB"
    console.say(printable(f"verified: {size}, plan {seen.plan[:12]}, {seen.target}"))
    if verified.linked:
        console.say(
            f"note: {verified.linked} files have other names (hard links): "
            "a change there is a change here"
        )
    for finding in seen.unreleasable:
        console.say(printable(f"not for release: {finding}"))
    return 0


def _is_of_a_release(path: Path) -> bool:
    """Return whether the verifier that ships with a release is the one for `path`."""
    from bundler.release.verify_sidecar import ARCHIVES, PART, SUMS

    if path.is_dir():
        return (path / SUMS).is_file()
    return path.is_file() and bool(path.name.endswith(ARCHIVES) or PART.fullmatch(path.name))
