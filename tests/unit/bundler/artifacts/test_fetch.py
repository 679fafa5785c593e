from __future__ import annotations

import gzip
import threading
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.fetch import Request, fetch
from bundler.artifacts.network import Network
from bundler.artifacts.sources import Location, Miss, UrlSource, hub_file
from bundler.artifacts.store import Store
from bundler.console import Progress, Unit
from bundler.digests import Artifact, Digest
from bundler.errors import DiskError, IntegrityError, UnreachableError
from tests.support.badserver import BadServer, redirect, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bundler.artifacts.sources import Source
    from tests.support.badserver import Handler

DATA = bytes(range(256)) * 64
QUICK = Network(tries=3, first_wait_s=0.0)


class Recorder(Progress):
    """Progress that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, object]] = []
        self.lock = threading.Lock()

    def start(self, name: str, total: int | None, *, unit: Unit = "bytes") -> None:
        del unit
        self._add("start", name, total)

    def advance(self, name: str, amount: int) -> None:
        self._add("advance", name, amount)

    def finish(self, name: str) -> None:
        self._add("finish", name, None)

    def note(self, name: str, text: str) -> None:
        self._add("note", name, text)

    def _add(self, kind: str, name: str, value: object) -> None:
        with self.lock:
            self.events.append((kind, name, value))


class Places:
    """A source with a fixed answer."""

    def __init__(self, *places: Location | Miss) -> None:
        self.places = places

    def locate(self, artifact: Artifact, pause: object = None) -> Iterator[Location | Miss]:
        del artifact, pause
        yield from self.places


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as server:
        yield server


def wanted(name: str, data: bytes = DATA, *sources: Source, sized: bool = True) -> Request:
    digest = Digest.of_bytes(data)
    if not sized:
        digest = Digest(sha256=digest.sha256)
    return Request(artifact=Artifact(name=name, digest=digest), sources=sources)


def test_everything_asked_for_is_fetched_checked_and_returned(
    store: Store, server: BadServer
) -> None:
    contents = {f"file{n}": DATA[n:] for n in range(7)}
    requests = [
        wanted(name, data, UrlSource(url=server.add(name, data)), sized=name != "file3")
        for name, data in contents.items()
    ]
    found = fetch(requests, store, network=QUICK)
    assert {artifact.name: path.read_bytes() for artifact, path in found.items()} == contents
    assert list((store.root / "partial").iterdir()) == []


def test_a_finished_download_is_never_fetched_again(store: Store, server: BadServer) -> None:
    request = wanted("a", DATA, UrlSource(url=server.add("a", DATA)))
    first = fetch([request], store, network=QUICK)
    again = fetch([request], Store(store.root), network=QUICK)
    assert first == again
    assert len(server.seen) == 1


def test_the_same_bytes_by_two_names_are_fetched_once(store: Store, server: BadServer) -> None:
    source = UrlSource(url=server.add("a", DATA))
    requests = [wanted("one", DATA, source), wanted("two", DATA, source)]
    found = fetch(requests, store, network=QUICK)
    assert len(set(found.values())) == 1
    assert {artifact.name for artifact in found} == {"one", "two"}
    assert len(server.seen) == 1


def test_an_empty_file_needs_no_server(store: Store) -> None:
    found = fetch([wanted("__init__.py", b"")], store, network=QUICK)
    (path,) = found.values()
    assert path.read_bytes() == b""


def test_a_local_file_is_copied_through_the_same_check(store: Store, tmp_path: Path) -> None:
    good, bad = tmp_path / "a b+c.whl", tmp_path / "bad.whl"
    good.write_bytes(DATA)
    bad.write_bytes(DATA[::-1])
    request = wanted("good", DATA, UrlSource(url=good.as_uri()))
    (path,) = fetch([request], store, network=QUICK).values()
    assert not path.samefile(good)
    with pytest.raises(IntegrityError):
        fetch([wanted("bad", b"x" + DATA, UrlSource(url=bad.as_uri()))], store, network=QUICK)


def test_the_next_place_is_asked_when_one_has_it_not_or_has_it_wrong(
    store: Store, server: BadServer
) -> None:
    request = wanted(
        "a",
        DATA,
        Places(Miss(place="index one", reason="has no such file")),
        Places(Location(url=server.url("missing")), Location(url=server.add("bad", DATA[::-1]))),
        UrlSource(url="file:///nowhere/at/all"),
        UrlSource(url=server.add("good", DATA)),
    )
    (path,) = fetch([request], store, network=QUICK).values()
    assert path.read_bytes() == DATA


def test_out_of_reach_names_the_artifact_and_every_place_without_secrets(
    store: Store, server: BadServer
) -> None:
    request = wanted(
        "torch.whl",
        DATA,
        Places(Miss(place="https://index.example/simple", reason="HTTP 403")),
        UrlSource(url=server.root.replace("//", "//me:secret@") + "/gone?sig=secret"),
        UrlSource(url="http://127.0.0.1:9/x"),
        UrlSource(url="ftp://files.example/x"),
    )
    with pytest.raises(UnreachableError) as caught:
        fetch([request], store, network=QUICK)
    text = caught.value.render()
    assert caught.value.exit_code == 5
    assert "torch.whl" in text
    assert "https://index.example/simple: HTTP 403" in text
    assert f"{server.root}/gone: HTTP 404" in text
    assert "http://127.0.0.1:9/x: no connection" in text
    assert "ftp://files.example/x: UnsupportedProtocol" in text
    assert "secret" not in text
    assert "next:" in text


def test_an_index_that_only_has_other_bytes_is_an_integrity_error(store: Store) -> None:
    other = Digest.of_bytes(b"other").sha256
    miss = Miss(place="index", reason="has other bytes under that name", sha256=other)
    with pytest.raises(IntegrityError) as caught:
        fetch([wanted("a", DATA, Places(miss))], store, network=QUICK)
    assert other in caught.value.why
    assert Digest.of_bytes(DATA).sha256 in caught.value.why


def test_offline_opens_no_socket_and_names_what_is_missing(store: Store, server: BadServer) -> None:
    held = wanted("held", DATA, UrlSource(url=server.add("held", DATA)))
    fetch([held], store, network=QUICK)
    server.seen.clear()
    assert fetch([held], store, network=QUICK, offline=True)
    missing = [wanted(f"m{n}", DATA[n + 1 :], UrlSource(url=server.root)) for n in range(7)]
    with pytest.raises(UnreachableError) as caught:
        fetch([held, *missing], store, network=QUICK, offline=True)
    assert caught.value.what == "not in the store: m0, m1, m2, m3, m4 and 2 more"
    assert "--offline" in caught.value.next_step
    assert server.seen == []


def damaged(store: Store, digest: Digest) -> Path:
    path = store.verified(digest)
    path.chmod(0o644)
    path.write_bytes(b"rot")
    return path


def test_a_damaged_entry_is_fetched_once_more_and_told_of(store: Store, server: BadServer) -> None:
    request = wanted("a", DATA, UrlSource(url=server.add("a", DATA)))
    fetch([request], store, network=QUICK)
    path = damaged(store, request.artifact.digest)
    progress = Recorder()
    fetch([request], Store(store.root), network=QUICK, progress=progress)
    assert path.read_bytes() == DATA
    assert len(server.seen) == 2
    assert [name for kind, name, _ in progress.events if kind == "note"] == ["a"]


def test_a_damaged_entry_offline_is_an_integrity_error_with_both_hashes(
    store: Store, server: BadServer
) -> None:
    request = wanted("a", DATA, UrlSource(url=server.add("a", DATA)))
    fetch([request], store, network=QUICK)
    path = damaged(store, request.artifact.digest)
    with pytest.raises(IntegrityError) as caught:
        fetch([request], Store(store.root), network=QUICK, offline=True)
    assert request.artifact.digest.sha256 in caught.value.why
    assert Digest.of_bytes(b"rot").sha256 in caught.value.why
    assert not path.exists()


def test_known_sizes_that_cannot_fit_are_refused_before_anything_is_fetched(
    store: Store, server: BadServer
) -> None:
    source = UrlSource(url=server.add("a", DATA))
    huge = Artifact(name="huge", digest=Digest(sha256="0" * 64, size=1 << 60))
    with pytest.raises(DiskError) as caught:
        fetch(
            [Request(artifact=huge, sources=(source,)), wanted("a", DATA, source)],
            store,
            network=QUICK,
        )
    assert str((1 << 60) + len(DATA)) in caught.value.why
    assert server.seen == []


def test_a_token_stays_with_the_hub_when_it_redirects_to_another_host(
    store: Store, server: BadServer
) -> None:
    revision = "c" * 40
    with BadServer() as storage:
        where = storage.add("blob", DATA)
        server.add(f"org/name/resolve/{revision}/model", b"", redirect(f"{where}?sig=1"))
        place = hub_file(server.root, "org/name", revision, "model", "hf_secret")
        (path,) = fetch([wanted("model", DATA, place)], store, network=QUICK).values()
        assert path.read_bytes() == DATA
        assert server.seen[0].authorization == "Bearer hf_secret"
        assert storage.seen[0].authorization is None


def test_a_token_that_is_not_accepted_is_left_out_and_never_redirected(
    store: Store, server: BadServer
) -> None:
    with BadServer() as storage:
        where = storage.add("blob", DATA)
        url = server.add("a", b"", status(401), redirect(where))
        source = UrlSource(url=url, tokens={server.root: "t0ken"})
        fetch([wanted("a", DATA, source)], store, network=QUICK)
        assert [one.authorization for one in server.seen] == ["Bearer t0ken", None]
        server.add("a", b"", redirect(where))
        fetch([wanted("a", DATA, source)], Store(store.root / "other"), network=QUICK)
        assert server.seen[-1].authorization == "Bearer t0ken"
        assert [one.authorization for one in storage.seen] == [None, None]


def test_a_server_that_compresses_unasked_is_understood(store: Store, server: BadServer) -> None:
    def compress(handler: Handler, data: bytes) -> None:
        handler.answer(200, gzip.compress(data), {"Content-Encoding": "gzip"})

    for sized in (True, False):
        data = DATA[int(sized) :]
        source = UrlSource(url=server.add(f"a{sized}", data, forever=compress))
        (path,) = fetch([wanted("a", data, source, sized=sized)], store, network=QUICK).values()
        assert path.read_bytes() == data


def test_progress_adds_up_to_the_size(store: Store, server: BadServer) -> None:
    progress = Recorder()
    request = wanted("a", DATA, UrlSource(url=server.add("a", DATA)), sized=False)
    fetch([request], store, network=QUICK, progress=progress)
    assert progress.events[0] == ("start", "a", len(DATA))
    assert sum(n for kind, _, n in progress.events if kind == "advance") == len(DATA)  # type: ignore[misc]
    assert progress.events[-1] == ("finish", "a", None)


def test_the_first_failure_stops_the_others_and_keeps_what_is_finished(
    store: Store, server: BadServer
) -> None:
    good = wanted("good", DATA, UrlSource(url=server.add("good", DATA)))
    bad = wanted("bad", DATA + b"1", UrlSource(url=server.url("gone")))
    later = [
        wanted(f"later{n}", DATA + bytes([n]) * 2, UrlSource(url=server.url("gone")))
        for n in range(20)
    ]
    with pytest.raises(UnreachableError, match="bad"):
        fetch([good, bad, *later], store, network=QUICK, at_once=1)
    assert store.path(good.artifact.digest) is not None
    assert len(server.seen) == 2


def test_a_success_sweeps_what_dead_processes_left(store: Store, server: BadServer) -> None:
    left = store.root / "partial" / f"{'0' * 64}.dead"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"begun")
    with pytest.raises(UnreachableError):
        fetch([wanted("a", DATA, UrlSource(url=server.url("gone")))], store, network=QUICK)
    assert left.exists()
    fetch([wanted("a", DATA, UrlSource(url=server.add("a", DATA)))], store, network=QUICK)
    assert not left.exists()


def test_a_status_that_brings_no_file_is_out_of_reach(store: Store, server: BadServer) -> None:
    request = wanted("a", DATA, UrlSource(url=server.add("a", DATA, forever=status(204))))
    with pytest.raises(UnreachableError, match="a is out of reach") as caught:
        fetch([request], store, network=QUICK)
    assert "HTTP 204" in caught.value.why
