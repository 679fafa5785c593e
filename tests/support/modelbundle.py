"""A bundle that holds models and nothing else, as far as its manifest tells."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sidecar import manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def write_bundle(
    root: Path, files: Mapping[str, bytes], models: Iterable[manifest.Model], *, default: str
) -> None:
    """Write `files` below `root`, and the manifest of a bundle that has these alone."""
    entries = []
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(manifest.FileEntry(path=name, mode=0o644, size=len(data), sha256=digest))
    listed = manifest.encode_entries(entries)
    (root / "manifests").mkdir()
    (root / "manifests" / "models.json").write_bytes(listed)
    component = manifest.Component(
        name="models",
        digest=hashlib.sha256(listed).hexdigest(),
        inputs="0" * 64,
        files=len(entries),
        size=1,
    )
    whole = manifest.Manifest(
        plan="a plan",
        target="linux-x64",
        version="0.1.0",
        profile="default",
        runtime=manifest.Runtime(version="3.11", source="host", executable="python/bin/python3.11"),
        default_model=default,
        papers="0" * 64,
        models=tuple(models),
        components=(component,),
    )
    (root / "manifest.json").write_bytes(manifest.encode(whole))
