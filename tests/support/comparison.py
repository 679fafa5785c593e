"""Random mixes of lengths through the packed engine, each text held against the reference engine.

python -m tests.support.comparison BUNDLE [MIXES] takes the bundle's default model and a twin of
each family, and prints the worst cosine and how far a text's neighbours moved its vector.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bundler.golden import read_golden
from sidecar.engines import reference
from sidecar.engines.packed import engine as packed
from sidecar.manifest import read
from tests.support.twins import LONG_SHAPES, cosines, make_twin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.engines import Engine, Vectors

    Ids = tuple[int, ...]

MIN_COSINE, MAX_MOVED = 0.99999, 1e-5
POOLINGS = ("mean", "cls", "max")
DRAWN, MOST_TEXTS, MAX_MIXES = 200, 12, 1_000_000
# Ids below this are special in one vocabulary or the other.
FIRST_PLAIN = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What mixes of texts showed: `moved` is the largest change of a number by neighbours."""

    mixes: int
    texts: int
    worst_cosine: float
    moved: float

    @property
    def is_same(self) -> bool:
        """Whether the packed engine gave the reference's vectors, whatever a text came with."""
        return self.worst_cosine >= MIN_COSINE and self.moved <= MAX_MOVED


def pool_of(engine: Engine, vocabulary: int, texts: Sequence[str], *, seed: int) -> list[Ids]:
    """Return the tokens of `texts`, and DRAWN sequences of all lengths, short ones more often."""
    drawn = random.Random(seed)
    made = [found.ids for found in engine.tokenize(texts)]
    first = min(FIRST_PLAIN, vocabulary // 2)
    for _ in range(DRAWN):
        length = round(engine.max_tokens ** drawn.random())
        made.append(tuple(drawn.randrange(first, vocabulary) for _ in range(length)))
    return made


def alone(engine: Engine, pool: Sequence[Ids], pooling: str) -> Vectors:
    """Return the vector of every sequence, encoded by itself."""
    rows = [engine.encode([ids], pooling=pooling, normalize=True) for ids in pool]
    return np.concatenate(rows)


def compare(
    ours: Engine, theirs: Engine, pool: Sequence[Ids], *, mixes: int, seed: int
) -> Compared:
    """Encode `mixes` batches drawn from `pool` and compare every row with both engines' own."""
    known = {pooling: alone(theirs, pool, pooling) for pooling in POOLINGS}
    single = {pooling: alone(ours, pool, pooling) for pooling in POOLINGS}
    drawn = random.Random(seed)
    worst = min(float(cosines(single[pooling], known[pooling]).min()) for pooling in POOLINGS)
    moved, texts = 0.0, 0
    for number in range(mixes):
        picked = [drawn.randrange(len(pool)) for _ in range(drawn.randint(1, MOST_TEXTS))]
        pooling = POOLINGS[number % len(POOLINGS)]
        rows = ours.encode([pool[index] for index in picked], pooling=pooling, normalize=True)
        worst = min(worst, float(cosines(rows, known[pooling][picked]).min()))
        moved = max(moved, float(np.abs(rows - single[pooling][picked]).max()))
        texts += len(picked)
    return Compared(mixes=mixes, texts=texts, worst_cosine=worst, moved=moved)


def _report(name: str, found: Compared, seconds: float) -> None:
    sys.stdout.write(
        f"{name:<20} {found.mixes} mixes, {found.texts} texts, worst cosine "
        f"{found.worst_cosine:.9f}, moved by neighbours {found.moved:.2e}, {seconds:.0f} s\n"
    )
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Compare, report; 0 if every model got the reference's vectors."""
    parser = argparse.ArgumentParser(
        prog="ci/count engines", description="Hold packed vectors against the reference's."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("mixes", type=int, nargs="?", default=3000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=8421)
    options = parser.parse_args(arguments)
    if not 1 <= options.mixes <= MAX_MIXES:
        parser.error(f"MIXES is between 1 and {MAX_MIXES}")
    are_same = True
    with tempfile.TemporaryDirectory(prefix="sidecar-twins-") as scratch:
        for family, shape in LONG_SHAPES.items():
            started = time.monotonic()
            twin = make_twin(Path(scratch) / family, shape)
            pool = pool_of(twin.packed, shape.vocabulary, (), seed=options.seed)
            found = compare(
                twin.packed, twin.reference, pool, mixes=options.mixes, seed=options.seed
            )
            _report(f"twin of {family}", found, time.monotonic() - started)
            are_same = are_same and found.is_same
    started = time.monotonic()
    model = read(options.bundle).models[0]
    folder = options.bundle / model.snapshot
    ours = packed.load(folder, device="cpu", threads=options.threads)
    theirs = reference.load(folder, device="cpu")
    texts = read_golden(options.bundle / model.golden).texts if model.golden else ()
    if ours.tokenize(texts) != theirs.tokenize(texts):
        sys.stdout.write(f"{model.name}: the tokens of some text differ\n")
        return 1
    vocabulary = json.loads((folder / "config.json").read_bytes())["vocab_size"]
    pool = pool_of(ours, vocabulary, texts, seed=options.seed)
    found = compare(ours, theirs, pool, mixes=options.mixes, seed=options.seed)
    _report(model.name, found, time.monotonic() - started)
    return 0 if are_same and found.is_same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
