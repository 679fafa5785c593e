"""How large a bundle makes an installer, by component, and how far that is from NSIS's limit."""

from __future__ import annotations

import bisect
import itertools
import lzma
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.manifest import read, read_entries
from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sidecar.manifest import FileEntry

# makensis is a 32-bit program: what it makes, and what it packs, stays below 2 GiB.
NSIS_BYTES = 2 << 30
# What is left for the app itself, Electron and its own resources; packed, it is about half.
RESERVED_BYTES = 256 << 20
SAMPLE_BYTES = 1 << 20
STEP_BYTES = 24 << 20
FEWEST_SAMPLES = 4
# electron-builder's 7z packs each file by itself, so that updates can be blocks of it.
PRESET = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadPart:
    """A component: its files, its bytes, and about how many of them 7z will make."""

    name: str
    files: int
    size: int
    packed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What one bundle adds to an installer."""

    target: str
    parts: tuple[PayloadPart, ...]

    @property
    def files(self) -> int:
        """All files."""
        return sum(part.files for part in self.parts)

    @property
    def size(self) -> int:
        """All bytes, as they are installed."""
        return sum(part.size for part in self.parts)

    @property
    def packed(self) -> int:
        """About how many bytes 7z makes of them."""
        return sum(part.packed for part in self.parts)

    @property
    def largest(self) -> PayloadPart:
        """The component that makes the installer what it is."""
        return max(self.parts, key=lambda part: (part.packed, part.name))


def weigh(root: Path) -> Payload:
    """Return the payload of the bundle at `root`; the packed sizes come from samples of it."""
    manifest = read(root)
    lists = {one.name: read_entries(root, one) for one in manifest.components}
    return Payload(
        target=manifest.target,
        parts=tuple(
            PayloadPart(
                name=name,
                files=len(entries),
                size=sum(entry.size for entry in entries),
                packed=_packed(root, entries),
            )
            for name, entries in lists.items()
        ),
    )


def _packed(root: Path, entries: Sequence[FileEntry]) -> int:
    """Return about how many bytes the files make, packed each by itself.

    Samples lie at equal distances over all bytes in the order of the paths, so that the same files
    give the same estimate everywhere.
    """
    listed = [entry for entry in sorted(entries, key=lambda entry: entry.path) if entry.size]
    ends = list(itertools.accumulate(entry.size for entry in listed))
    if not ends:
        return 0
    count = max(FEWEST_SAMPLES, ends[-1] // STEP_BYTES)

    def ratio(number: int) -> float:
        at = ends[-1] * (2 * number + 1) // (2 * count)
        index = bisect.bisect_right(ends, at)
        entry = listed[index]
        inside = at - (ends[index] - entry.size)
        with (root / entry.path).open("rb") as stream:
            stream.seek(inside - inside % SAMPLE_BYTES)
            data = stream.read(SAMPLE_BYTES)
        filters = [{"id": lzma.FILTER_LZMA2, "preset": PRESET}]
        return min(1.0, len(lzma.compress(data, lzma.FORMAT_RAW, filters=filters)) / len(data))

    with ThreadPoolExecutor(cores.count()) as pool:
        return round(ends[-1] * sum(pool.map(ratio, range(count))) / count)


def findings(payload: Payload) -> Iterator[str]:
    """Yield what whoever makes an installer should know of a payload, the limits first."""
    largest = payload.largest
    share = round(100 * largest.packed / max(payload.packed, 1))
    if payload.packed + RESERVED_BYTES >= NSIS_BYTES:
        yield (
            f"{payload.target}: too large for NSIS: about {_mb(payload.packed)} packed, and the "
            f"app, of at most {_mb(NSIS_BYTES)}; use nsis-web, msi, or the profile lean"
        )
    elif payload.size + RESERVED_BYTES >= NSIS_BYTES:
        yield (
            f"{payload.target}: {_mb(payload.size)} unpacked: `compression: store` and portable "
            f"installers would pass NSIS's limit of {_mb(NSIS_BYTES)}; 7z, the default, does not"
        )
    yield f"{payload.target}: {largest.name} is {share} % of what is packed"


def table(payloads: Sequence[Payload]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| target | component | files | MB installed | MB packed (7z, estimated) |"
    yield "|---|---|---:|---:|---:|"
    for payload in payloads:
        for part in payload.parts:
            yield _row(payload.target, part.name, part.files, part.size, part.packed)
        yield _row(payload.target, "all", payload.files, payload.size, payload.packed)


def _row(target: str, name: str, files: int, size: int, packed: int) -> str:
    return f"| {target} | {name} | {files:,} | {size / 1e6:,.1f} | {packed / 1e6:,.1f} |"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
