"""A store on a disk that is full, or that cannot be written."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.fetch import fetch
from bundler.artifacts.store import Store
from bundler.digests import Digest
from bundler.errors import DiskError
from tests.support.badserver import unframed
from tests.support.fetching import DATA, DIGEST, QUICK, leftovers, request, some_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.badserver import BadServer


@pytest.mark.parametrize("tenth", range(1, 10))
def test_disk_full_at_any_tenth_exits_6_and_keeps_wholes(
    small_disk: Callable[[int], Path], server: BadServer, tenth: int
) -> None:
    contents = [some_bytes(n, 300_000) for n in range(8)]
    store = Store(small_disk(sum(map(len, contents)) * tenth // 10) / "store")
    requests = [
        # Without lengths: what is not known beforehand must be noticed while writing.
        request(
            server.add(f"f{n}", data, forever=unframed()),
            Digest(sha256=Digest.of_bytes(data).sha256),
        )
        for n, data in enumerate(contents)
    ]
    with pytest.raises(DiskError) as caught:
        fetch(requests, store, network=QUICK, at_once=2)
    assert caught.value.exit_code == 6
    assert "bytes are needed" in caught.value.why
    assert "bytes are free" in caught.value.why
    kept = [path for path in (store.root / "sha256").rglob("*") if path.is_file()]
    assert len(kept) >= (tenth * 8) // 10 - 2
    for path in kept:
        assert Digest.of_file(path).sha256 == path.name


def test_a_length_that_cannot_fit_is_refused_before_it_is_written(
    small_disk: Callable[[int], Path], server: BadServer
) -> None:
    store = Store(small_disk(128 * 1024) / "store")
    url = server.add("a.whl", DATA)
    with pytest.raises(DiskError) as caught:
        fetch([request(url, Digest(sha256=DIGEST.sha256))], store, network=QUICK)
    assert f"{len(DATA)} bytes are needed" in caught.value.why
    assert leftovers(store) == []


def test_a_store_that_cannot_be_written_serves_what_it_has(
    small_disk: Callable[[int], Path], server: BadServer
) -> None:
    disk = small_disk(1024 * 1024)
    store = Store(disk / "store")
    wanted = request(server.add("a.whl", DATA))
    fetch([wanted], store, network=QUICK)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    (path,) = fetch([wanted], Store(store.root), network=QUICK).values()
    assert path.read_bytes() == DATA
    other = request(server.add("b.whl", DATA[1:]), Digest.of_bytes(DATA[1:]))
    with pytest.raises(DiskError, match="cannot be written"):
        fetch([other], store, network=QUICK)
