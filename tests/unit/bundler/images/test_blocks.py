from __future__ import annotations

import gzip
import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.store import Store
from bundler.console import Progress
from bundler.images.layers import (
    BLOCK_BYTES,
    LEVEL,
    Layers,
    compressor,
    in_blocks,
    member,
    members,
)
from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@pytest.fixture
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as made:
        yield made


@pytest.mark.parametrize("most", [1, 3, 100])
def test_members_are_one_stream_however_many_wait(pool: ProcessPoolExecutor, most: int) -> None:
    blocks = list(in_blocks([DATA], 2000))
    stream = b"".join(members(blocks, pool, most))
    assert stream == b"".join(map(member, blocks))
    assert gzip.decompress(stream) == DATA


def test_little_is_compressed_without_starting_a_process(pool: ProcessPoolExecutor) -> None:
    assert list(members([DATA], pool, 3)) == [member(DATA)]
    assert list(members([], pool, 3)) == []
    assert not pool._processes


def test_an_error_in_the_stream_reaches_the_caller(pool: ProcessPoolExecutor) -> None:
    def failing() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise ValueError("read")

    with pytest.raises(ValueError, match="read"):
        list(members(failing(), pool, 3))


@pytest.mark.parametrize(("usable", "expected"), [(1, 1), (6, 6), (128, 61)])
def test_processes_are_as_many_as_usable_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, usable: int, expected: int
) -> None:
    monkeypatch.setattr(cores, "count", lambda: usable)
    with Layers(Store(tmp_path), Progress()) as layers:
        assert layers._processes == expected


def test_what_decides_the_bytes_is_said() -> None:
    said = compressor()
    assert f"level {LEVEL} " in said
    assert str(BLOCK_BYTES) in said
