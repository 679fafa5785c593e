from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.download import Patience
from bundler.artifacts.store import Store
from bundler.bootstrap.download import Route, fetch, route
from bundler.console import Console, Lines
from bundler.digests import Artifact, Digest
from bundler.errors import DiskError, IntegrityError, UnreachableError, UsageError
from tests.support.badserver import (
    BadServer,
    cut_at,
    extra,
    honest,
    other_range,
    redirect,
    status,
    unframed,
    whole,
    wrong,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.badserver import Behaviour

DATA = bytes(range(256)) * 3000
DIGEST = Digest.of_bytes(DATA)
QUICK = Patience(tries=3, unheard_tries=2, first_wait_s=0.0, longest_wait_s=0.0)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def bring(
    store: Store, url: str, *, way: Route | None = None, said: io.StringIO | None = None
) -> Path:
    wanted = Artifact(name="thing.tar.gz", digest=Digest(sha256=DIGEST.sha256))
    progress = Lines(Console(said or io.StringIO()), "fetch")
    return fetch(wanted, url, store, way or route({}, url), progress, QUICK)


def leftovers(store: Store) -> list[int]:
    return [path.stat().st_size for path in (store.root / "partial").iterdir()]


@pytest.mark.parametrize(
    ("script", "ranges"),
    [
        ([], [None]),
        ([cut_at(1000)], [None, "bytes=1000-"]),
        ([cut_at(1000), cut_at(5)], [None, "bytes=1000-", "bytes=1005-"]),
        ([cut_at(1000), whole], [None, "bytes=1000-"]),
        ([cut_at(1000), other_range], [None, "bytes=1000-", None]),
        ([cut_at(1000), status(416)], [None, "bytes=1000-", None]),
        ([status(503), status(429, Retry_After="0")], [None] * 3),
        ([unframed()], [None]),
        ([extra(b"more")], [None, None]),
        ([wrong], [None, None]),
    ],
    ids=[
        *("whole", "cut", "cut more often", "range ignored", "another range", "no such range"),
        *("busy", "no length", "too much", "wrong once"),
    ],
)
def test_what_comes_is_the_locked_file_in_the_builders_store(
    server: BadServer, store: Store, script: list[Behaviour], ranges: list[str | None]
) -> None:
    path = bring(store, server.add("thing", DATA, *script))
    assert path == store.verified(DIGEST)
    assert path.read_bytes() == DATA
    assert [one.range for one in server.seen] == ranges
    assert leftovers(store) == []
    assert (store.root / "CACHEDIR.TAG").is_file()


def test_a_redirect_keeps_the_range_and_drops_the_password(server: BadServer, store: Store) -> None:
    with BadServer() as other:
        real = other.add("real", DATA, cut_at(1000))
        begin = server.add("thing", b"", forever=redirect(real))
        bring(store, begin.replace("http://", "http://me:s%40crt@"))
        assert [one.authorization for one in other.seen] == [None, None]
        assert [one.range for one in other.seen] == [None, "bytes=1000-"]
    assert {one.authorization for one in server.seen} == {"Basic bWU6c0BjcnQ="}


def test_bytes_of_a_killed_run_are_gone_on_with(server: BadServer, store: Store) -> None:
    with store.writer(DIGEST) as writer:
        writer.write(DATA[:5000])
        kept = writer.partial.path
        other = store.root / "partial" / f"{DIGEST.sha256}.dead"
        other.write_bytes(kept.read_bytes())
    bring(store, server.add("thing", DATA))
    assert [one.range for one in server.seen] == ["bytes=5000-"]
    assert leftovers(store) == []


def test_out_of_reach_exits_5_and_keeps_what_came(server: BadServer, store: Store) -> None:
    url = server.add("thing", DATA, cut_at(700), forever=status(503))
    with pytest.raises(UnreachableError, match="is out of reach") as caught:
        bring(store, url)
    assert caught.value.why == f"{url}: HTTP 503, 3 times"
    assert leftovers(store) == [700]
    server.add("thing", DATA, forever=honest)
    bring(store, url)
    assert server.seen[-1].range == "bytes=700-"


@pytest.mark.parametrize(("code", "setting"), [(404, ""), (401, "netrc"), (403, "netrc")])
def test_a_refusal_is_not_repeated_and_names_what_helps(
    server: BadServer, store: Store, code: int, setting: str
) -> None:
    with pytest.raises(UnreachableError) as caught:
        bring(store, server.add("thing", b"", forever=status(code)))
    assert f"HTTP {code}" in caught.value.why
    assert setting in caught.value.next_step
    assert len(server.seen) == 1


def test_wrong_bytes_exit_4_and_are_not_kept(server: BadServer, store: Store) -> None:
    with pytest.raises(IntegrityError, match=r"thing\.tar\.gz is not the file") as caught:
        bring(store, server.add("thing", DATA, forever=wrong))
    assert caught.value.exit_code == 4
    assert DIGEST.sha256 in caught.value.why
    assert len(server.seen) == 2
    assert leftovers(store) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/x", "no connection (Connection refused), 2 times"),
        ("nonsense/x", "unknown url type"),
        ("file:///nonexistent/x", "No such file or directory"),
        ("http://127.0.0.1:9 9/x", "no connection"),
    ],
)
def test_an_address_that_leads_nowhere_exits_5(store: Store, url: str, words: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        bring(store, url)
    assert words in caught.value.why


def test_a_mirror_on_a_disk_is_copied(store: Store, tmp_path: Path) -> None:
    (tmp_path / "thing").write_bytes(DATA)
    assert bring(store, (tmp_path / "thing").as_uri()).read_bytes() == DATA


@pytest.mark.parametrize("by", ["pip", "environment"])
def test_a_proxy_is_gone_through(
    server: BadServer, store: Store, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    url = "http://release.example/thing"
    server.add("thing", DATA)
    # A proxy is asked for the whole address.
    server.files[url] = DATA
    if by == "environment":
        monkeypatch.setenv("http_proxy", server.root)
    way = route({"proxy": server.root} if by == "pip" else {}, url)
    assert bring(store, url, way=way).read_bytes() == DATA
    assert [one.path for one in server.seen] == [url]


def test_a_proxy_that_wants_a_password_is_told_so(server: BadServer, store: Store) -> None:
    url = "http://release.example/thing"
    server.refuse(url, 407)
    with pytest.raises(UnreachableError) as caught:
        bring(store, url, way=route({"proxy": server.root}, url))
    assert "HTTP 407" in caught.value.why
    assert "global.proxy" in caught.value.next_step
    assert len(server.seen) == 1


def test_a_proxy_that_is_not_there_is_named_without_its_password(store: Store) -> None:
    url = "https://release.example/thing"
    with pytest.raises(UnreachableError) as caught:
        bring(store, url, way=route({"proxy": "http://me:s3cret@127.0.0.1:9/"}, url))
    assert "through 127.0.0.1:9 (Connection refused)" in caught.value.why
    assert "global.proxy" in caught.value.next_step
    assert "s3cret" not in caught.value.render()


def test_certificates_that_cannot_be_used_are_a_matter_of_settings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="certificates"):
        route({"cert": str(tmp_path / "none")}, "https://release.example/thing")


def test_a_store_that_cannot_be_written_exits_6(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(DiskError):
        bring(Store(tmp_path / "store"), server.add("thing", DATA))


def test_progress_is_told(server: BadServer, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.console.LINE_SECONDS", 0.0)
    said = io.StringIO()
    bring(store, server.add("thing", DATA), said=said)
    assert (
        f"fetch thing.tar.gz: {len(DATA) / 1e6:.1f} of {len(DATA) / 1e6:.1f} MB" in said.getvalue()
    )
