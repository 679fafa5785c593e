"""What users may rely on changes knowingly: it is compared with the list in tests/surface.txt."""

from __future__ import annotations

import difflib

from tests.support import surface


def test_public_surface_is_the_recorded_one() -> None:
    recorded = surface.LIST.read_text(encoding="utf-8").splitlines()
    found = surface.text().splitlines()
    changes = difflib.unified_diff(recorded, found, "recorded", "found", n=0, lineterm="")
    shown = "\n".join(line for line in changes if not line.startswith("@@"))
    assert not shown, f"`{surface.COMMAND}` records what changed:\n{shown}"
