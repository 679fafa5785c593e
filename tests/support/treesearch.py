"""What the files of a tree hold: some bytes, or what demands the sources of all it ships with."""

from __future__ import annotations

import mmap
import re
from typing import TYPE_CHECKING

from bundler.assembly import sbom

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

NATIVE = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
BERKELEY_DB = (b"Berkeley DB", b"Sleepycat")
DEMANDING = re.compile(r"AGPL|Sleepycat", re.IGNORECASE)
LICENCE_LINE = re.compile(r"^  Licence: (.*)$", re.MULTILINE)


def holding(paths: Iterable[Path], needles: Sequence[bytes]) -> list[tuple[Path, bytes]]:
    """Return each file among `paths` that holds one of `needles`, with the needle."""
    assert min(map(len, needles)) > 3, "a needle that any file may hold by chance"
    found = []
    for path in paths:
        if path.is_file() and path.stat().st_size:
            with (
                path.open("rb") as stream,
                mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                found += [(path, needle) for needle in needles if data.find(needle) != -1]
    return found


def demands(root: Path) -> list[str]:
    """Return the native files that hold Berkeley DB, and the licences in papers that demand it."""
    natives = [path for path in root.rglob("*") if path.is_file() and _is_native(path)]
    bill = sbom.licences_in((root / "sbom.cdx.json").read_bytes())
    licences = [licence for _, licence in bill]
    notices = LICENCE_LINE.findall((root / "NOTICES.txt").read_text(encoding="utf-8"))
    assert natives
    assert licences
    assert notices
    found = [path.relative_to(root).as_posix() for path, _ in holding(natives, BERKELEY_DB)]
    return found + [one for one in licences + notices if DEMANDING.search(one)]


def _is_native(path: Path) -> bool:
    with path.open("rb", buffering=0) as stream:
        return stream.read(4).startswith(NATIVE)
