"""What the faults of a download are tried on: some bytes, a request for them, a quick network."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bundler.artifacts.fetch import Request
from bundler.artifacts.network import Network
from bundler.artifacts.sources import UrlSource
from bundler.digests import Artifact, Digest

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.artifacts.store import Store


def some_bytes(seed: int, size: int = 100_000) -> bytes:
    """Return the same bytes for the same `seed`."""
    return random.Random(seed).randbytes(size)


DATA = some_bytes(1, 300_000)
DIGEST = Digest.of_bytes(DATA)
QUICK = Network(tries=3, first_wait_s=0.0, longest_wait_s=0.2, read_s=0.3, connect_s=2.0)


def request(url: str, digest: Digest = DIGEST) -> Request:
    """Return the wish for `digest` from `url`."""
    return Request(artifact=Artifact(name="a.whl", digest=digest), sources=(UrlSource(url=url),))


def leftovers(store: Store) -> list[Path]:
    """Return what is unfinished in `store`."""
    return sorted((store.root / "partial").glob("*"))
