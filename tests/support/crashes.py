"""Kills a miniature build at every checkpoint, runs it again, and counts how that ended.

python -m tests.support.crashes [N]
Prints a line per checkpoint; returns 8 if one build did not end as an undisturbed one does.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from bundler import checkpoints
from tests.support import assembler
from tests.support.miniature import Miniature, snapshot

# Nothing is set aside where nothing was.
ONLY_OVER_AN_OLD_ONE = frozenset({"assemble.aside"})


def made(miniature: Miniature, destination: Path) -> tuple[object, str, list[str]]:
    """Run a build; return the tree it made, the digests it told, and what lies beside the tree."""
    done = assembler.run(miniature, destination)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return snapshot(destination), done.stdout, sorted(p.name for p in destination.parent.iterdir())


def change(miniature: Miniature) -> None:
    """Change the service."""
    miniature.write_service("sidecar/cli.py", "def main() -> int:\n    return 1\n")


def survives(folder: Path, name: str, wanted: object, *, over_an_old_one: bool) -> bool | None:
    """Return whether a build killed at `name` ends well the next time; None if it was not."""
    miniature = Miniature.make(folder / "project")
    destination = folder / "made" / "bundle"
    destination.parent.mkdir()
    if over_an_old_one:
        miniature.assemble(destination)
    change(miniature)
    killed = assembler.run(miniature, destination, "--die-at", name)
    if killed.returncode != -signal.SIGKILL:
        return None
    return made(miniature, destination) == wanted


def main() -> int:
    """Do all of it; return 0 if every build ended well."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    failures = 0
    with tempfile.TemporaryDirectory(prefix="sidecar-crashes-") as name:
        root = Path(name)
        miniature = Miniature.make(root / "wanted" / "project")
        change(miniature)
        (root / "wanted" / "made").mkdir()
        wanted = made(miniature, root / "wanted" / "made" / "bundle")
        for checkpoint in checkpoints.NAMES:
            killed = well = 0
            for number in range(times):
                for old in (False, True):
                    if checkpoint in ONLY_OVER_AN_OLD_ONE and not old:
                        continue
                    folder = root / f"{checkpoint}-{number}-{old}"
                    ended = survives(folder, checkpoint, wanted, over_an_old_one=old)
                    killed += ended is not None
                    well += bool(ended)
                    failures += not ended
            sys.stdout.write(f"{checkpoint:20} killed {killed:4}  the same afterwards {well:4}\n")
            sys.stdout.flush()
    return 8 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
