"""A service with two models of few layers, as a process: mixed requests, damage, its end."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import TINY_BERT, TINY_MPNET
from bench.synthetic import write_model
from sidecar.engines.packed import engine as packed
from sidecar.models.loader import Loaded
from sidecar.models.snapshot import from_folder
from tests.support.clients import Client
from tests.support.mixed_models import Mix, Truth, counted, phases
from tests.support.running import Running, running
from tests.support.twins import ODD, WORDS, write_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE = Path(__file__).parents[2] / "service"
TEXTS = (*WORDS, *ODD[:12])
SMALL, LARGE = "small-words", "large-words"
CLIENTS = 64
WAIT_S = 60
HUGE_BYTES = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two models by their folders, and what is right of them: what their engines say here."""

    folders: tuple[Path, ...]
    truths: tuple[Truth, ...]

    @contextlib.contextmanager
    def served(self, *options: str) -> Iterator[Running]:
        """Start a service of both models."""
        names = [word for folder in self.folders for word in ("--model", str(folder))]
        command = [sys.executable, "-B", str(SERVICE), "--port", "0", "--threads", "1", *names]
        with running([*command, *options]) as service:
            yield service


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    base = tmp_path_factory.mktemp("models")
    folders, truths = [], []
    for name, shape in ((SMALL, TINY_BERT), (LARGE, TINY_MPNET)):
        folder = write_graph(write_model(base / name, shape, TEXTS))
        engine = packed.load(folder, device="cpu", threads=1)
        ids = [one.ids for one in engine.tokenize(TEXTS)]
        truth = Truth(
            name=name,
            repository=name,
            fingerprint=Loaded(engine=engine, snapshot=from_folder(folder)).fingerprint(),
            texts=TEXTS,
            rows=engine.encode(ids, pooling="mean", normalize=True),
        )
        folders.append(folder)
        truths.append(truth)
    return Pair(folders=tuple(folders), truths=tuple(truths))


def until(find: Callable[[], str], wanted: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while (found := find()) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_64_clients_mix_two_models_and_one_goes_and_comes_meanwhile(pair: Pair) -> None:
    with pair.served("--idle-unload", "600") as service:
        port = service.wait_ready()
        assert phases(port) == {SMALL: "ready", LARGE: "unloaded"}
        mix = Mix(port=port, truths=pair.truths)
        mix.run(CLIENTS, 4)
        others = threading.Thread(target=mix.run, args=(CLIENTS, 6), kwargs={"only": [0]})
        others.start()
        body = {"model": LARGE, "input": "a", "keep_alive": 0}
        assert Client(port=port).ask("/api/embed", body).status == 200
        until(lambda: phases(port)[LARGE], "unloaded")
        others.join()
        mix.run(CLIENTS, 4)
        assert mix.wrong == []
        assert mix.right == CLIENTS * 14
        assert counted(port, "loads") == {SMALL: 1, LARGE: 2}
        assert counted(port, "unloads") == {SMALL: 0, LARGE: 1}
        assert service.stop() == 0


def test_64_clients_are_answered_where_one_of_two_models_fits_at_a_time(pair: Pair) -> None:
    # What the libraries take, an engine with its first batches, and no second one.
    with pair.served("--max-memory", "100") as service:
        port = service.wait_ready()
        mix = Mix(port=port, truths=pair.truths)
        mix.run(CLIENTS, 4)
        assert mix.wrong == []
        assert mix.right == CLIENTS * 4
        loads, unloads = counted(port, "loads"), counted(port, "unloads")
        assert loads[LARGE] >= 1
        assert unloads[SMALL] >= 1
        assert sum(loads.values()) - sum(unloads.values()) == 1
        assert service.stop() == 0


def test_a_model_that_cannot_be_loaded_is_told_and_serves_once_it_can(pair: Pair) -> None:
    needed = pair.folders[1] / "modules.json"
    whole = needed.read_bytes()
    with pair.served() as service:
        port = service.wait_ready()
        needed.unlink()
        try:
            answer = Client(port=port).ask("/embed", {"texts": ["a"], "model": LARGE})
        finally:
            needed.write_bytes(whole)
        assert answer.status == 503
        assert json.loads(answer.body)["type"] == "urn:sidecar:problem:model-fails"
        assert phases(port) == {SMALL: "ready", LARGE: "failed"}
        assert str(pair.folders[1]) not in answer.body.decode() + service.log
        assert Client(port=port).ask("/health").status == 200
        mix = Mix(port=port, truths=pair.truths)
        mix.run(4, 2)
        assert (mix.wrong, mix.right) == ([], 8)
        assert service.stop() == 0


def test_a_service_ends_with_0_while_a_second_model_is_verified(pair: Pair) -> None:
    huge = pair.folders[1] / "huge.json"
    try:
        with pair.served() as service:
            port = service.wait_ready()
            with huge.open("wb") as stream:
                stream.truncate(HUGE_BYTES)  # to hash it takes a quarter of an hour
            body = {"texts": ["a"], "model": LARGE}
            answers: list[int] = []
            asked = threading.Thread(
                target=lambda: answers.append(Client(port=port).ask("/embed", body).status)
            )
            asked.start()
            until(lambda: phases(port)[LARGE], "verifying")
            assert Client(port=port).ask("/health").json()["phase"] == "ready"
            assert len(Client(port=port).embed(["a"])) == 1
            assert service.stop() == 0
            asked.join(WAIT_S)
            assert answers == [503]
    finally:
        huge.unlink(missing_ok=True)


def test_a_name_that_is_not_here_ends_the_start_before_a_load(pair: Pair) -> None:
    with pair.served("--model", "nope") as service:
        assert service.process.wait() == 5
        (line,) = service.log.splitlines()
        assert json.loads(line)["message"] == "the model nope is not here"


def test_a_first_model_over_the_limit_of_memory_ends_the_start(pair: Pair) -> None:
    with pair.served("--max-memory", "64") as service:
        assert service.process.wait() == 11
        last = json.loads(service.log.splitlines()[-1])
        assert "--max-memory" in last["next"]
