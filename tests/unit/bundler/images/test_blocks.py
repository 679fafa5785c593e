from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING

import pytest

from bundler.images.layers import BLOCK_BYTES, LEVEL, Compressors, compressor, in_blocks, member
from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Iterator

# Noise does not shrink, repetition does: both ways of the compressor are taken.
DATA = b"".join(
    hashlib.sha256(bytes([number])).digest() * (number % 5 + 1) for number in range(200)
)


@pytest.mark.parametrize("size", [1, 7, 4096, len(DATA), len(DATA) + 1])
def test_blocks_are_the_same_bytes_cut_evenly(size: int) -> None:
    pieces = [DATA[:10], b"", DATA[10:5000], DATA[5000:]]
    blocks = list(in_blocks(pieces, size))
    assert b"".join(blocks) == DATA
    assert all(len(block) == size for block in blocks[:-1])
    assert 0 < len(blocks[-1]) <= size


def test_no_bytes_are_no_blocks() -> None:
    assert list(in_blocks([b"", b""])) == []


def test_a_member_is_gzip_without_a_name_a_date_or_a_system() -> None:
    packed = member(DATA)
    assert gzip.decompress(packed) == DATA
    assert len(packed) < len(DATA)
    assert packed[:8] == b"\x1f\x8b\x08\0\0\0\0\0"
    assert packed[9] == 255


def test_members_are_one_stream_whatever_the_number_of_processes() -> None:
    blocks = list(in_blocks([DATA], 2000))
    streams = []
    for processes in (1, 3):
        compressors = Compressors(processes)
        try:
            streams.append(b"".join(compressors.members(blocks)))
        finally:
            compressors.close()
    assert streams[0] == streams[1] == b"".join(map(member, blocks))
    assert gzip.decompress(streams[0]) == DATA


def test_little_is_compressed_without_starting_a_process() -> None:
    compressors = Compressors(2)
    assert list(compressors.members([DATA])) == [member(DATA)]
    assert list(compressors.members([])) == []
    assert compressors._pool is None
    compressors.close()


def test_an_error_in_the_stream_reaches_the_caller_and_the_processes_end() -> None:
    def failing() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise ValueError("read")

    compressors = Compressors(1)
    try:
        with pytest.raises(ValueError, match="read"):
            list(compressors.members(failing()))
    finally:
        compressors.close()
    assert compressors._pool is None


@pytest.mark.parametrize(("usable", "expected"), [(1, 1), (6, 6), (128, 61)])
def test_processes_are_as_many_as_usable_cores_unless_told(
    monkeypatch: pytest.MonkeyPatch, usable: int, expected: int
) -> None:
    monkeypatch.setattr(cores, "count", lambda: usable)
    assert Compressors()._processes == expected
    assert Compressors(3)._processes == 3


def test_what_decides_the_bytes_is_said() -> None:
    said = compressor()
    assert f"level {LEVEL} " in said
    assert str(BLOCK_BYTES) in said
