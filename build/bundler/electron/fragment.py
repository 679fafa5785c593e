"""The part of electron-builder's configuration that takes a bundle in, for every target at once."""

from __future__ import annotations

import json
from dataclasses import dataclass

MACROS = "${os}-${arch}"
# Beside the components: what a bundle says of itself.
PAPERS = ("manifest.json", "sbom.cdx.json", "NOTICES.txt")
# electron-builder's names of the platforms; its Intel Macs and 32 bits have no bundle.
PLATFORMS = ("linux", "mac", "win")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things lie when the app is packaged, as paths from the app's folder.

    `bundles` is the folder of bundles, `suffix` what stands behind the target in their folders'
    names, `integration` where the fragment itself and its hooks are.
    """

    bundles: str
    integration: str
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The names at the top of a bundle."""

    folders: tuple[str, ...]
    papers: tuple[str, ...]


def render(place: Place, contents: Contents, *, made_for: str) -> str:
    """Return the fragment as YAML."""
    own = f"{place.integration}/electron-builder.yml"
    lines = [
        f"# Made by `python3 build electron` for {made_for}: make it again, do not edit it.",
        f"# Your electron-builder.yml takes it in with:  extends: {own}",
    ]
    hooks = _quoted(f"./{place.integration}/hooks.mjs")
    anchor = "&sidecar"
    for platform in PLATFORMS:
        # An app's own extraResources replace those of a parent at the top, and join these.
        lines += [f"{platform}:", f"  extraResources: {anchor}"]
        if platform == PLATFORMS[0]:
            lines += _resources(place, contents)
        anchor = "*sidecar"
        if platform == "mac":
            # How a file is signed is the hook's: electron-builder 26 reads `entitlements` and
            # `signIgnore` here, and 27 refuses a configuration that has them.
            lines.append(f"  sign: {hooks}")
    lines.append(f"afterPack: {hooks}")
    return "\n".join(lines) + "\n"


def _resources(place: Place, contents: Contents) -> list[str]:
    """Return what is copied. No entry has a filter, so that nothing is left out, bytecode least."""
    names = (*contents.folders, *contents.papers)
    sources = [f"{place.bundles}/{MACROS}{place.suffix}/{name}" for name in names]
    return [
        f"    - {{ from: {_quoted(source)}, to: {_quoted(name)} }}"
        for name, source in zip(names, sources, strict=True)
    ]


def _quoted(text: str) -> str:
    """Return `text` as a YAML scalar: every JSON string is one."""
    return json.dumps(text, ensure_ascii=False)
