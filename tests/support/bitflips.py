"""Flips one bit in each of some files of a copy of a bundle, and counts those that verify names.

python -m tests.support.bitflips COUNT BUNDLE SCRATCH [SEED]
Returns 8 if one was not named. The manifest itself is left alone: it is what the rest is held to.
"""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

from bundler.console import Progress
from bundler.errors import VerificationError
from bundler.inspection.inventory import PAPERS, take_stock
from bundler.verify import verify


def flip(root: Path, count: int, chance: random.Random) -> list[str]:
    """Flip a bit in `count` files that the manifest lists; return their paths, sorted."""
    owned = take_stock(root)
    papers = {document.path for document in owned.manifest.documents}
    paths = [
        path
        for path, file in owned.files.items()
        if file.entry.size and (file.component != PAPERS or path in papers)
    ]
    chosen = sorted(chance.sample(paths, min(count, len(paths))))
    for path in chosen:
        place = chance.randrange(owned.files[path].entry.size)
        with (root / path).open("r+b") as stream:
            stream.seek(place)
            (byte,) = stream.read(1)
            stream.seek(place)
            stream.write(bytes([byte ^ (1 << chance.randrange(8))]))
    return chosen


def named(root: Path) -> set[str]:
    """Return the paths that verify names as changed."""
    try:
        verify(root, Progress())
    except VerificationError as error:
        lines = (line.strip() for line in error.why.splitlines())
        changed = (line.removeprefix("changed: ") for line in lines if line.startswith("changed: "))
        return {line.rpartition(" (")[0] for line in changed}
    return set()


def main() -> int:
    """Copy, flip, verify, count."""
    count, bundle, scratch = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.SystemRandom().randrange(1 << 32)
    # Copies, not links: the bundle itself keeps its bits.
    root = shutil.copytree(bundle, scratch / "bundle")
    flipped = flip(root, count, random.Random(seed))
    found = named(root)
    missed = sorted(set(flipped) - found)
    wrong = sorted(found - set(flipped))
    told = f"{len(flipped) - len(missed)} named, {len(wrong)} named without one"
    sys.stdout.write(f"seed {seed}: {len(flipped)} files with a flipped bit, {told}\n")
    sys.stdout.writelines(f"not named: {path}\n" for path in missed)
    return 8 if missed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
