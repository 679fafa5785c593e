"""A bundle that is moved, replaced or deleted while its service runs, as updaters of apps do."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from sidecar.manifest import MANIFEST
from tests.support import copies, exchanges
from tests.support.clients import Client
from tests.support.exchanges import PAGES, Exchange, Said
from tests.support.running import Running, program, running
from tests.support.vitals import children, still_there

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks into /proc; elsewhere what runs may not be removed"
)
CLIENTS = 16
TIMES = 20
# Answers that every client must get before the change, and after it.
ANSWERS = 3
LIGHT_BYTES = 10_000
WAIT_S = 120.0
OTHERS_TEXT = "of another version"
OTHER_WORKER = f"""
import json, os
os.write(1, b"+")
body = json.dumps({{"pages": [{OTHERS_TEXT!r}], "complete": True}}).encode()
os.write(1, len(body).to_bytes(8, "big") + body)
"""


@dataclass(kw_only=True)
class Counted:
    """What clients were answered: how often which, and what should not have been."""

    answers: Counter[Said] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    restarts_s: list[float] = field(default_factory=list)

    def of_status(self, status: int) -> int:
        """Return how many answers had it."""
        return sum(count for (found, _), count in self.answers.items() if found == status)


def other_version(bundle: Path, place: Path) -> Path:
    """Return a copy of `bundle` at `place` that says to be another version, and reads otherwise."""
    copy = copies.linked(bundle, place)
    manifest = json.loads((copy / MANIFEST).read_bytes())
    manifest["version"] = f"{manifest['version']}.9"
    copies.replace(copy / MANIFEST, json.dumps(manifest).encode())
    worker = copy / "embedding_sidecar/sidecar/documents/worker.py"
    copies.replace(worker, OTHER_WORKER.encode())
    return copy


def move(here: Path, _bundle: Path) -> Path:
    return here.rename(here.with_name("elsewhere"))


def replace(here: Path, bundle: Path) -> Path:
    ready = other_version(bundle, here.with_name("other"))
    here.rename(here.with_name("old"))
    return ready.rename(here)


def delete(here: Path, bundle: Path) -> Path:
    ready = copies.linked(bundle, here.with_name("other"))
    shutil.rmtree(here)
    return ready


CHANGES = {"moved": move, "replaced": replace, "deleted": delete}


def loaded_ahead(service: Running) -> int:
    """Return the port of a service once it has loaded all that requests need."""
    port = service.wait_ready()
    service.wait_loaded()
    return port


def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_its_bundle_every_request_is_answered_as_before(lean: Path, tmp_path: Path) -> None:
    here = copies.linked(lean, tmp_path / "bundle")
    command = [*program(here), "--port", "0", "--allow-dir", str(tmp_path)]
    asked = [*exchanges.looks(), *exchanges.embeddings(), *exchanges.documents(tmp_path)]
    with running(command) as service:
        port = loaded_ahead(service)
        assert Client(port=port).ask("/health").json()["bundle"] == "present"
        here.rename(tmp_path / "away")
        wrong = [
            f"{exchange.method} {exchange.path}: {said}, not {exchange.expected}"
            for exchange in asked
            if (said := exchange.send(port)[0]) != exchange.expected
        ]
        assert not wrong, service.log
        first, *others = exchanges.pdfs()
        said, body = first.send(port)
        assert said == (200, ""), service.log
        assert json.loads(body)["chunks"] == ["\n".join(PAGES)]
        assert {exchange.send(port)[0] for exchange in others} == {(503, "bundle-gone")}
        health = Client(port=port).ask("/health")
        assert (health.status, health.json()["bundle"]) == (200, "gone")
        assert "Traceback" not in service.log
        # Nothing of it was missed for good.
        (tmp_path / "away").rename(here)
        assert Client(port=port).ask("/health").json()["bundle"] == "present"
        assert others[0].send(port)[0] == (200, "")


@pytest.mark.parametrize("change", CHANGES)
def test_a_bundle_changed_under_load_fails_no_request_and_blames_no_file(
    lean: Path, tmp_path: Path, change: str
) -> None:
    counted = Counted()
    one_round(lean, tmp_path / "bundle", change, counted)
    assert_well(counted)


@pytest.mark.full
@pytest.mark.parametrize("change", CHANGES)
def test_a_bundle_changed_under_load_again_and_again_fails_no_request(
    lean: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = Counted()
    for number in range(TIMES):
        room = tmp_path / str(number)
        room.mkdir()
        one_round(lean, room / "bundle", change, counted, is_early=number % 2 == 1)
        shutil.rmtree(room)
    assert_well(counted)
    for name, value in figures(counted).items():
        with capsys.disabled():
            sys.stdout.write(f"\n{change}: {name} {value}")


def assert_well(counted: Counted) -> None:
    sys.stdout.write(f"{figures(counted)}\n")
    assert not counted.wrong
    assert counted.of_status(500) == 0
    assert counted.of_status(200) > CLIENTS


def figures(counted: Counted) -> dict[str, object]:
    """Return what is told of a run: answers of 500 and 503, and the seconds to restart."""
    refused = {kind: count for (status, kind), count in counted.answers.items() if status == 503}
    return {
        "answers": sum(counted.answers.values()),
        "of 500": counted.of_status(500),
        "of 503": refused,
        "restart, median s": round(statistics.median(counted.restarts_s), 2),
        "restart, most s": round(max(counted.restarts_s), 2),
    }


def one_round(
    lean: Path, here: Path, change: str, counted: Counted, *, is_early: bool = False
) -> None:
    """Start the service of a copy, change that under load, start the one that is there then.

    `is_early` changes it before anything was loaded ahead.
    """
    copies.linked(lean, here)
    texts = [*exchanges.looks(), *exchanges.embeddings()]
    asked = [one for one in texts if len(one.body) < LIGHT_BYTES] + [*exchanges.pdfs()] * 4
    with running([*program(here), "--port", "0"]) as service:
        port = service.wait_ready() if is_early else loaded_ahead(service)
        place = under_load(
            asked, port, counted, lambda: CHANGES[change](here, lean), is_early=is_early
        )
        assert Client(port=port).ask("/health").json()["bundle"] == "gone"
        processes = children(service.process.pid)
        began = time.monotonic()
        assert service.stop() == 0
        assert not still_there(processes, within_s=WAIT_S)
        with running([*program(place), "--port", "0"]) as again:
            client = Client(port=again.wait_ready())
            counted.restarts_s.append(time.monotonic() - began)
            assert client.embed(["a text"]).shape[0] == 1


def under_load(
    asked: Sequence[Exchange],
    port: int,
    counted: Counted,
    change: Callable[[], Path],
    *,
    is_early: bool,
) -> Path:
    """Change the bundle while clients ask, let them ask on, and return where the next one lies."""
    lock, is_over = threading.Lock(), threading.Event()
    done = [0] * CLIENTS

    def ask(number: int) -> None:
        step = number * 5
        while not is_over.is_set():
            exchange = asked[step % len(asked)]
            step += 1
            try:
                said, body = exchange.send(port)
            except OSError as error:
                said, body = (0, type(error).__name__), b""
            with lock:
                counted.answers[said] += 1
                if not is_right(exchange, said, body, is_early=is_early):
                    counted.wrong.append(f"{exchange.method} {exchange.path}: {said}")
            done[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: min(done) >= ANSWERS)
        place = change()
        before = list(done)
        until(lambda: all(now - then >= ANSWERS for now, then in zip(done, before, strict=True)))
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    return place


def is_right(exchange: Exchange, said: Said, body: bytes, *, is_early: bool) -> bool:
    """Return whether an answer may come from a service whose bundle goes away."""
    if said == exchange.expected:
        return OTHERS_TEXT.encode() not in body
    may_need_files = exchange.is_pdf or is_early
    return may_need_files and said in ((503, "bundle-gone"), (503, "no-process"))
