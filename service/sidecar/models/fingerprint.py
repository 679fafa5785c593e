"""The name of a vector space: vectors may be compared if and only if it is the same."""

from __future__ import annotations

import hashlib
import json

from sidecar.engines import SpaceClass

LENGTH = 16


def fingerprint(
    *, repository: str, revision: str, pooling: str, normalize: bool, space: SpaceClass
) -> str:
    """Return 16 hex digits that stand for the space; the engine's name is no part of it."""
    parts = [repository, revision, pooling, normalize, space]
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
