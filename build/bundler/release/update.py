"""What an update moves: the bytes that somebody who has one bundle lacks of another.

A bundle updates by its manifests: a component whose list has the same digest moves nothing, and of
the others only the files whose content was not there, under whatever name. An image updates by its
layers, as every registry does it.
"""

from __future__ import annotations

import contextlib
import tarfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import zstandard

from bundler.archive import ZSTD_LEVEL
from bundler.bundle import read_bundle
from bundler.errors import VerificationError
from bundler.images import image
from bundler.release import verify_sidecar
from sidecar.manifest import (
    CHUNK_BYTES,
    MANIFEST,
    MANIFESTS,
    MOST_PAPER_BYTES,
    ManifestError,
    decode,
    decode_entries,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bundler.images.layers import Layers
    from bundler.release.verify_sidecar import BundleMember
    from sidecar.manifest import FileEntry, Manifest

PAPERS = "papers"
IMAGE = ".oci.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What moves of one component or layer: files, their bytes, and those compressed.

    Layers are compressed as they are stored; of them neither files nor plain bytes are counted.
    """

    name: str
    compressed: int
    files: int = 0
    size: int = 0


def document(moved: Sequence[Moved]) -> dict[str, Any]:
    """Return it as plain data, with totals."""
    return {
        "parts": [asdict(one) for one in moved],
        "size": sum(one.size for one in moved),
        "compressed": sum(one.compressed for one in moved),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A bundle in a folder or an archive, as its manifest has it.

    `lists` and `files` are by component, and under PAPERS the manifest and the documents.
    """

    place: Path
    manifest: Manifest
    lists: Mapping[str, bytes]
    files: Mapping[str, tuple[FileEntry, ...]]

    @classmethod
    def read(cls, place: Path) -> Held:
        """Read the manifest and its lists. Raises VerificationError."""
        papers: dict[str, bytes] = {}
        for member in _members(place):
            if member.name == MANIFEST or member.name.startswith(f"{MANIFESTS}/"):
                held = sum(map(len, papers.values()))
                papers[member.name] = _paper(place, member, MOST_PAPER_BYTES - held)
        try:
            manifest = decode(papers[MANIFEST])
            names = [one.name for one in manifest.components]
            lists = {name: papers[f"{MANIFESTS}/{name}.json"] for name in names}
            files = {name: decode_entries(data) for name, data in lists.items()}
        except (KeyError, ManifestError) as error:
            raise VerificationError(
                f"{place} is not a bundle",
                why=str(error),
                next_step=f"python3 build verify {place}",
            ) from error
        lists[PAPERS], files[PAPERS] = papers[MANIFEST], manifest.documents
        return cls(place=place, manifest=manifest, lists=lists, files=files)


def is_image(place: Path) -> bool:
    """Return whether `place` is an image's archive."""
    return place.is_file() and place.name.endswith(IMAGE)


def bundle_update(before: Held, after: Held) -> tuple[Moved, ...]:
    """Return what moves of each component of `after`, in their order, and of its papers."""
    there = {entry.sha256 for entries in before.files.values() for entry in entries}
    wanted = {
        name: [entry for entry in entries if entry.sha256 not in there]
        for name, entries in after.files.items()
    }
    sinks = {name: _Sink() for name in wanted}
    for name, data in after.lists.items():
        if data not in before.lists.values():
            sinks[name].write(data)
    owners = {entry.path: name for name, entries in wanted.items() for entry in entries}
    for member in _members(after.place) if owners else ():
        if member.name in owners:
            for chunk in _content(after.place, member):
                sinks[owners[member.name]].write(chunk)
    return tuple(
        Moved(name=name, compressed=sinks[name].finish(), files=len(entries), size=sinks[name].size)
        for name, entries in wanted.items()
    )


def image_update(before: Held, after: Held, layers: Layers, *, epoch: int) -> tuple[Moved, ...]:
    """Return what moves of each layer above the base; what does not is not even made.

    Raises VerificationError where the folder is not what its manifest says.
    """
    there = {part.identity for part in image.parts_of(read_bundle(before.place), epoch)}
    return tuple(
        Moved(
            name=part.name,
            compressed=0 if part.identity in there else layers.layer(part).digest.size or 0,
        )
        for part in image.parts_of(read_bundle(after.place), epoch)
    )


def archive_update(before: Path, after: Path) -> tuple[Moved, ...]:
    """Return what moves between two images' archives, by the layers that they name."""
    there = {digest for _, digest, _ in _layers(before)}
    return tuple(
        Moved(name=name, compressed=0 if digest in there else size)
        for name, digest, size in _layers(after)
    )


def lines(title: str, moved: Sequence[Moved]) -> Iterator[str]:
    """Yield what people read: a line for each part, and the sum."""
    for one in moved:
        what = f"{one.files} files, {one.size:,} bytes, " if one.size else ""
        yield f"{title:<7} {one.name:<9} {what}{one.compressed:,} compressed"
    yield f"{title:<7} {'all':<9} {sum(one.compressed for one in moved):,} bytes move"


class _Sink:
    """Counts bytes, and what they become when compressed as an archive is."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
        self.size = 0
        self._compressed = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._compressed += len(self._compressor.compress(data))

    def finish(self) -> int:
        """Return how many compressed bytes there are; none of nothing."""
        self._compressed += len(self._compressor.flush())
        return self._compressed if self.size else 0


def _members(place: Path) -> Iterator[BundleMember]:
    """Yield what lies in a folder or an archive. Raises VerificationError."""
    if place.is_dir():
        yield from verify_sidecar.folder_members(place)
        return
    with _reading(place), verify_sidecar.opened(place) as stream:
        if ".zip" in place.suffixes:
            yield from verify_sidecar.zip_members(stream)
        else:
            with verify_sidecar.unzstd(stream) as tar:
                yield from verify_sidecar.tar_members(tar or stream)


def _content(place: Path, member: BundleMember) -> Iterator[bytes]:
    """Yield the bytes of something in a folder or an archive. Raises VerificationError."""
    with _reading(place):
        stream = member.opened() if member.opened else None
        if stream is not None:
            with stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk


def _paper(place: Path, member: BundleMember, most: int) -> bytes:
    """Return the manifest or a list, of `most` bytes. Raises VerificationError."""
    data = bytearray()
    for chunk in _content(place, member):
        data += chunk
        if len(data) > most:
            raise _unreadable(place, f"its lists hold more than {MOST_PAPER_BYTES} bytes")
    return bytes(data)


@contextlib.contextmanager
def _reading(place: Path) -> Iterator[None]:
    """Turn what reading an archive may raise into a VerificationError."""
    try:
        yield
    except (*verify_sidecar.UNREADABLE, zstandard.ZstdError) as error:
        raise _unreadable(place, str(error)) from error


def _unreadable(place: Path, why: str) -> VerificationError:
    return VerificationError(
        f"{place} cannot be read", why=why, next_step=f"python3 build verify {place}"
    )


def _layers(archive: Path) -> list[tuple[str, str, int]]:
    """Return name, digest and compressed size of each layer. Raises VerificationError."""
    try:
        with tarfile.open(archive, "r:") as tar:
            image = verify_sidecar.ImageLayout(tar, verify_sidecar.Report(archive.name))
            return [
                (
                    str(layer.get("annotations", {}).get("sidecar.layer", "layer")),
                    str(layer["digest"]),
                    int(layer["size"]),
                )
                for document in image.documents()
                for layer in document.get("layers", [])
            ]
    except verify_sidecar.UNREADABLE as error:
        raise VerificationError(
            f"{archive} is not an image's archive",
            why=str(error),
            next_step=f"python3 build verify {archive}",
        ) from error
