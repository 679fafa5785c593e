from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts import download
from bundler.artifacts.fetch import fetch
from bundler.artifacts.network import Network
from bundler.artifacts.store import Store
from bundler.digests import Digest
from bundler.errors import IntegrityError, UnreachableError
from tests.support.badserver import (
    BadServer,
    cut_at,
    extra,
    honest,
    other_range,
    redirect,
    slowly,
    stall_at,
    status,
    unframed,
    whole,
    wrong,
)
from tests.support.fetching import DATA, DIGEST, QUICK, leftovers, request, some_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.badserver import Behaviour, Handler

ROOT = Path(__file__).parents[2]


def silent(handler: Handler, _: bytes) -> None:
    handler.bad.released.wait()


def cut_without_ranges(handler: Handler, data: bytes) -> None:
    del handler.headers["Range"]
    cut_at(1000)(handler, data)


RECOVERABLE: dict[str, tuple[Behaviour, ...]] = {
    "cut at the first byte": (cut_at(0),),
    "cut in the middle": (cut_at(100_000),),
    "cut before the last byte": (cut_at(len(DATA) - 1),),
    "cut twice": (cut_at(100_000), cut_at(100_000)),
    "cut, then no ranges": (cut_at(100_000), whole),
    "cut, then another range": (cut_at(100_000), other_range),
    "cut, another range, wrong once": (cut_at(100_000), other_range, wrong),
    "cut, then no such range": (cut_at(100_000), status(416)),
    "cut, then no range is allowed": (cut_at(100_000), status(403)),
    "cut without a length": (unframed(100_000),),
    "no length at all": (unframed(),),
    "busy, saying how long": (status(429, Retry_After="0"),),
    "busy, saying nothing": (status(429),),
    "busy, past the last date": (status(429, Retry_After="Fri, 31 Dec 9999 23:59:59 -2300"),),
    "down": (status(503), status(502)),
    "silent before the headers": (silent,),
    "silent in the middle": (stall_at(100_000),),
    "wrong once": (wrong,),
    "cut, then the rest wrong": (cut_at(100_000), wrong),
    "too long once": (extra(b"tail"),),
}


@pytest.mark.parametrize("sized", [True, False], ids=["size known", "size unknown"])
@pytest.mark.parametrize("script", RECOVERABLE.values(), ids=RECOVERABLE.keys())
def test_a_passing_fault_still_brings_the_right_bytes(
    store: Store, server: BadServer, script: tuple[Behaviour, ...], *, sized: bool
) -> None:
    digest = DIGEST if sized else Digest(sha256=DIGEST.sha256)
    wanted = request(server.add("a.whl", DATA, *script), digest)
    (path,) = fetch([wanted], store, network=QUICK).values()
    assert path.read_bytes() == DATA
    assert leftovers(store) == []


def test_a_cut_download_continues_where_it_was_cut(store: Store, server: BadServer) -> None:
    url = server.add("a.whl", DATA, cut_at(100_000), cut_at(50_000))
    fetch([request(url)], store, network=QUICK)
    assert [seen.range for seen in server.seen] == [None, "bytes=100000-", "bytes=150000-"]


@pytest.mark.parametrize(
    ("script", "ranges"),
    [
        ((cut_at(100_000), whole), [None, "bytes=100000-"]),
        ((cut_at(100_000), other_range), [None, "bytes=100000-", None]),
        ((cut_at(100_000), status(416)), [None, "bytes=100000-", None]),
        ((cut_at(100_000), status(403)), [None, "bytes=100000-", None]),
    ],
    ids=["ignores the range", "answers another", "has no such range", "refuses ranges"],
)
def test_a_server_without_ranges_costs_no_more_than_a_fresh_start(
    store: Store, server: BadServer, script: tuple[Behaviour, ...], ranges: list[str | None]
) -> None:
    fetch([request(server.add("a.whl", DATA, *script))], store, network=QUICK)
    assert [seen.range for seen in server.seen] == ranges


@pytest.mark.parametrize("code", [403, 416])
def test_server_that_refuses_the_whole_file_is_given_up(
    store: Store, server: BadServer, code: int
) -> None:
    url = server.add("a.whl", DATA, cut_at(100_000), forever=status(code))
    with pytest.raises(UnreachableError) as caught:
        fetch([request(url)], store, network=QUICK)
    assert [seen.range for seen in server.seen] == [None, "bytes=100000-", None]
    assert f"HTTP {code}" in caught.value.why
    (partial,) = leftovers(store)
    assert partial.stat().st_size == 100_000


def test_progress_allows_more_cuts_than_tries(store: Store, server: BadServer) -> None:
    url = server.add("a.whl", DATA, forever=cut_at(20_000))
    patient = Network(tries=2, first_wait_s=0.0, fair_bytes=10_000)
    (path,) = fetch([request(url)], store, network=patient).values()
    assert path.read_bytes() == DATA


LASTING: dict[str, Behaviour] = {
    "cut at the same byte, no ranges": cut_without_ranges,
    "cut before the body": cut_at(0),
    "cut where only the end of the connection ends it": unframed(1000),
    "busy": status(429, Retry_After="86400"),
    "down": status(500),
    "silent": stall_at(0),
    "gone": status(404),
    "forbidden": status(403),
    "turning in circles": lambda handler, _: handler.answer(302, b"", {"Location": "/a.whl"}),
}


@pytest.mark.parametrize("forever", LASTING.values(), ids=LASTING.keys())
def test_a_lasting_fault_ends_in_exit_5_after_bounded_tries(
    store: Store, server: BadServer, forever: Behaviour
) -> None:
    url = server.add("a.whl", DATA, forever=forever)
    with pytest.raises(UnreachableError) as caught:
        fetch([request(url)], store, network=QUICK)
    assert caught.value.exit_code == 5
    assert "a.whl" in caught.value.what
    assert url in caught.value.why
    assert len(server.seen) <= 25
    assert store.path(DIGEST) is None


def without_end(handler: Handler, _: bytes) -> None:
    handler.head(200, {"Connection": "close"})
    handler.close_connection = True
    while True:  # until nobody listens
        handler.wfile.write(bytes(1 << 16))


def announcing(length: str) -> Behaviour:
    """Promise so many bytes, and send none."""

    def behave(handler: Handler, _: bytes) -> None:
        handler.head(200, {"Content-Length": length})
        handler.drop()

    return behave


@pytest.mark.parametrize(
    ("forever", "why"),
    [
        (without_end, "sends more than 1000000 bytes"),
        (announcing("9" * 15), "announces 999999999999999 bytes"),
    ],
    ids=["without end", "more than a disk has"],
)
def test_a_place_that_sends_far_too_much_is_passed_over(
    store: Store,
    server: BadServer,
    monkeypatch: pytest.MonkeyPatch,
    forever: Behaviour,
    why: str,
) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 1_000_000)
    wanted = request(server.add("a.whl", DATA, forever=forever), Digest(sha256=DIGEST.sha256))
    with pytest.raises(UnreachableError) as caught:
        fetch([wanted], store, network=QUICK)
    assert why in caught.value.why
    assert leftovers(store) == []
    other = request(server.add("b.whl", DATA), Digest(sha256=DIGEST.sha256))
    both = replace(wanted, sources=(*wanted.sources, *other.sources))
    (path,) = fetch([both], store, network=QUICK).values()
    assert path.read_bytes() == DATA


def test_the_bytes_of_a_failed_run_serve_the_next_one(store: Store, server: BadServer) -> None:
    url = server.add("a.whl", DATA, cut_at(100_000), *[status(503)] * 2)
    with pytest.raises(UnreachableError):
        fetch([request(url)], store, network=QUICK)
    assert len(leftovers(store)) == 1
    fetch([request(url)], Store(store.root), network=QUICK)
    assert server.seen[-1].range == "bytes=100000-"
    assert leftovers(store) == []


@pytest.mark.parametrize("sized", [True, False], ids=["size known", "size unknown"])
def test_wrong_bytes_of_the_right_size_end_in_exit_4_with_both_hashes(
    store: Store, server: BadServer, *, sized: bool
) -> None:
    digest = DIGEST if sized else Digest(sha256=DIGEST.sha256)
    url = server.add("a.whl", DATA, forever=wrong)
    with pytest.raises(IntegrityError) as caught:
        fetch([request(url, digest)], store, network=QUICK)
    actual = Digest.of_bytes(bytes(byte ^ 0xFF for byte in DATA)).sha256
    assert caught.value.exit_code == 4
    assert actual in caught.value.why
    assert DIGEST.sha256 in caught.value.why
    assert len(server.seen) == 2
    assert store.path(DIGEST) is None
    assert leftovers(store) == []


def test_bytes_beyond_a_known_size_are_not_taken(store: Store, server: BadServer) -> None:
    url = server.add("a.whl", DATA, forever=extra(b"tail" * 10_000))
    (path,) = fetch([request(url)], store, network=QUICK).values()
    assert path.read_bytes() == DATA


def test_bytes_beyond_an_unknown_size_are_wrong_bytes(store: Store, server: BadServer) -> None:
    url = server.add("a.whl", DATA, forever=extra(b"tail"))
    with pytest.raises(IntegrityError) as caught:
        fetch([request(url, Digest(sha256=DIGEST.sha256))], store, network=QUICK)
    assert Digest.of_bytes(DATA + b"tail").sha256 in caught.value.why


def test_a_redirect_is_followed_on_every_try(store: Store, server: BadServer) -> None:
    with BadServer() as storage:
        where = storage.add("blob", DATA, cut_at(100_000))
        url = server.add("a.whl", b"", forever=redirect(where))
        fetch([request(url)], store, network=QUICK)
        assert [seen.range for seen in storage.seen] == [None, "bytes=100000-"]


FETCH = """
    import os, signal, sys
    from pathlib import Path
    from bundler.digests import Artifact, Digest
    from bundler.artifacts.fetch import Request, fetch
    from bundler.artifacts.network import Network
    from bundler.artifacts.sources import UrlSource
    from bundler.artifacts.store import Store

    root, url, *digests = sys.argv[1:]
    if "KILL_IN" in os.environ:
        name, _, nth = os.environ["KILL_IN"].partition(":")
        module = {"replace": Path, "fsync": os, "chmod": os, "unlink": Path}[name]
        real, calls = getattr(module, name), []

        def kill(*arguments, **named):
            calls.append(1)
            if len(calls) == int(nth):
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        setattr(module, name, kill)
    print("ready", flush=True)
    found = fetch(
        [
            Request(
                artifact=Artifact(name=sha256[:8], digest=Digest(sha256=sha256)),
                sources=(UrlSource(url=f"{url}/{sha256}"),),
            )
            for sha256 in digests
        ],
        Store(Path(root)),
        network=Network(tries=3, first_wait_s=0.05),
    )
    print(sorted(path.name for path in found.values()))
"""


class Builders:
    """Real processes that fetch into one store."""

    def __init__(self, store: Store, server: BadServer, files: int) -> None:
        self.store = store
        self.server = server
        contents = [some_bytes(n, 100_000 + n) for n in range(files)]
        self.files = {Digest.of_bytes(data).sha256: data for data in contents}

    def serve(self, behaviour: Behaviour = honest) -> None:
        for sha256, data in self.files.items():
            self.server.add(sha256, data, forever=behaviour)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        paths = [str(ROOT / "build"), str(ROOT / "service")]
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(FETCH),
                str(self.store.root),
                self.server.root,
                *self.files,
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def finish(self, process: subprocess.Popen[str]) -> None:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == f"{sorted(self.files)}\n"

    def check(self) -> None:
        for sha256, data in self.files.items():
            assert Store(self.store.root).verified(Digest(sha256=sha256)).read_bytes() == data
        assert leftovers(self.store) == []


@pytest.mark.parametrize("after_s", [0.05, 0.2, 0.4])
def test_a_killed_download_is_finished_by_the_next_run(
    store: Store, server: BadServer, after_s: float
) -> None:
    builders = Builders(store, server, files=3)
    builders.serve(slowly(10_000, 0.05))
    process = builders.start()
    time.sleep(after_s)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    builders.serve()
    builders.finish(builders.start())
    builders.check()


@pytest.mark.parametrize(
    "point", ["fsync:1", "fsync:2", "fsync:3", "chmod:1", "replace:1", "replace:2", "unlink:1"]
)
def test_a_process_killed_while_it_publishes_loses_nothing_that_was_whole(
    store: Store, server: BadServer, point: str
) -> None:
    builders = Builders(store, server, files=2)
    builders.serve()
    process = builders.start(KILL_IN=point)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    whole_before = {path.name for path in (store.root / "sha256").rglob("*") if path.is_file()}
    server.seen.clear()
    builders.finish(builders.start())
    builders.check()
    assert not whole_before & {seen.path.lstrip("/") for seen in server.seen}


def test_two_builders_on_one_store_are_both_right(store: Store, server: BadServer) -> None:
    builders = Builders(store, server, files=4)
    builders.serve(slowly(20_000, 0.01))
    pair = [builders.start(), builders.start()]
    for process in pair:
        builders.finish(process)
    builders.check()
    assert len(server.seen) <= 2 * len(builders.files)


def _never_works(*_: object) -> None:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize(
    "flock", [lambda *_: None, _never_works], ids=["locks lie", "locks are refused"]
)
def test_two_fetches_are_right_where_the_file_system_does_not_lock(
    store: Store, server: BadServer, monkeypatch: pytest.MonkeyPatch, flock: Callable[..., None]
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock)
    contents = [some_bytes(n, 100_000 + n) for n in range(6)]
    requests = [
        request(server.add(f"f{n}", data, forever=slowly(30_000, 0.01)), Digest.of_bytes(data))
        for n, data in enumerate(contents)
    ]
    failures: list[BaseException] = []

    def run() -> None:
        try:
            fetch(requests, Store(store.root), network=QUICK)
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.03)
    for thread in threads:
        thread.join()
    assert failures == []
    for data in contents:
        assert Store(store.root).verified(Digest.of_bytes(data)).read_bytes() == data
