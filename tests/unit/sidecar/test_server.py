from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import __version__, server
from sidecar.errors import ModelError, ServiceError, UnreachableError
from sidecar.models.loader import Loaded
from sidecar.process.listener import listen
from sidecar.process.signals import Stop
from sidecar.scheduling.encoder import Encoder
from sidecar.settings import Settings
from tests.support.stub_engine import SNAPSHOT, StubEngine
from tests.support.tinymodel import tiny_model, write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

JSON = {"content-type": "application/json"}


class Running:
    """The service on a port of its own, in a thread, around a stub engine."""

    def __init__(self, engine: StubEngine, settings: Settings) -> None:
        self.engine = engine
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.is_ready = threading.Event()
        self.stop = Stop()
        self.code: int | None = None
        self.failure: ServiceError | None = None
        self._settings = settings
        self.sock = listen("127.0.0.1", 0, allow_remote=False)
        self.port = self.sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def write_event(self, event: str, data: dict[str, Any]) -> None:
        self.events.append((event, data))
        if event == "ready":
            self.is_ready.set()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, JSON if sent else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        try:
            self.code = server.serve(self._settings, sock=self.sock, stop=self.stop, events=self)
        except ServiceError as error:
            self.failure = error


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(load: Callable[..., Loaded] | None = None, **settings: Any) -> Running:
        engine = StubEngine()
        chosen = load or (lambda _report: Loaded(engine=engine, snapshot=SNAPSHOT))
        monkeypatch.setattr(server, "load", lambda _settings, _to, report: chosen(report))
        made.append(Running(engine, Settings(port=0, **settings)))
        return made[-1]

    yield start
    for running in made:
        running.engine.gate.set()
        running.stop.request()
        running.join()
        running.sock.close()


def test_a_ready_service_says_so_once_with_its_real_port(run: Callable[..., Running]) -> None:
    service = run()
    assert service.is_ready.wait(30)
    loaded, ready = service.events
    assert loaded == ("model_loaded", {"model": "stub/words", "dimensions": 8})
    assert ready[0] == "ready"
    assert ready[1]["port"] == service.port
    assert ready[1]["pid"] == os.getpid()
    assert ready[1]["degraded"] is None
    status, health = service.ask("GET", "/health")
    assert (status, health["status"], health["version"]) == (200, "ok", __version__)
    assert health["instance"] == ready[1]["instance"]
    assert service.ask("POST", "/embed", {"texts": ["a"]})[0] == 200


def test_an_idle_model_is_unloaded_and_loaded_again(run: Callable[..., Running]) -> None:
    service = run(idle_unload_s=1)
    assert service.is_ready.wait(30)
    deadline = time.monotonic() + 30
    while service.ask("GET", "/health")[1]["models"][0]["phase"] != "unloaded":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert service.ask("POST", "/embed", {"texts": ["a"]})[0] == 200
    status, health = service.ask("GET", "/health")
    assert (status, health["models"][0]["phase"]) == (200, "ready")
    assert [name for name, _ in service.events] == ["model_loaded", "ready"]


def test_a_shutdown_by_request_is_answered_and_then_done(run: Callable[..., Running]) -> None:
    service = run()
    assert service.is_ready.wait(30)
    assert service.ask("POST", "/shutdown") == (202, {"status": "stopping"})
    assert service.stop.is_requested
    service.join()
    assert service.code == 0


def test_a_stop_while_the_model_loads_does_not_wait_for_it(run: Callable[..., Running]) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load(report: Callable[[str], None]) -> Loaded:
        report("importing")
        loading.set()
        go_on.wait(30)
        return Loaded(engine=StubEngine(), snapshot=SNAPSHOT)

    service = run(load)
    assert loading.wait(30)
    status, health = service.ask("GET", "/health")
    assert (status, health["status"], health["phase"]) == (503, "loading", "importing")
    service.stop.request()
    service.join()
    go_on.set()
    assert service.code == 0
    assert service.events == []


def test_a_stop_that_came_before_the_server_is_kept(run: Callable[..., Running]) -> None:
    stop = Stop()
    stop.request()
    sock = listen("127.0.0.1", 0, allow_remote=False)
    service = run()
    assert server.serve(Settings(port=0), sock=sock, stop=stop, events=service) == 0


def test_a_name_that_is_not_here_is_refused_before_a_load(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    loads: list[str] = []

    def load(_report: object) -> Loaded:
        loads.append("loaded")
        return Loaded(engine=StubEngine(), snapshot=SNAPSHOT)

    first = write_model(tmp_path / "first", tiny_model())
    service = run(load, model=str(first), more_models=("nope",))
    service.join()
    assert isinstance(service.failure, UnreachableError)
    assert service.failure.what == "the model nope is not here"
    assert (loads, service.events) == ([], [])


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_model_that_cannot_be_loaded_ends_the_service_with_its_error(
    run: Callable[..., Running], *, is_ours: bool
) -> None:
    def load(_report: object) -> Loaded:
        if is_ours:
            raise ModelError("it does not load", why="because")
        raise ZeroDivisionError("a secret")

    service = run(load)
    service.join()
    assert service.code is None
    assert service.failure is not None
    assert service.failure.exit_code == (11 if is_ours else 1)
    assert "secret" not in service.failure.render()
    with pytest.raises(ConnectionRefusedError), socket.socket() as client:
        client.connect(("127.0.0.1", service.port))


def test_a_running_request_is_answered_while_the_service_stops(
    run: Callable[..., Running],
) -> None:
    service = run()
    assert service.is_ready.wait(30)
    service.engine.gate.clear()
    answers: list[tuple[int, Any]] = []
    client = threading.Thread(
        target=lambda: answers.append(service.ask("POST", "/embed", {"texts": ["a"] * 40}))
    )
    client.start()
    assert service.engine.entered.wait(30)
    service.stop.request()
    threading.Timer(0.2, service.engine.gate.set).start()
    service.join()
    client.join()
    assert answers[0][0] == 200
    assert len(answers[0][1]["vectors"]) == 40
    assert service.code == 0


def test_a_large_body_that_is_refused_is_followed_by_giving_back(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[str] = []
    monkeypatch.setattr(Encoder, "freed", lambda _: freed.append("freed"))
    service = run()
    assert service.is_ready.wait(30)
    assert service.ask("POST", "/embed", {"texts": [0]})[0] == 422
    assert service.ask("POST", "/embed", {"texts": [0] * 40_000})[0] == 422
    service.stop.request()
    service.join()
    assert freed == ["freed"]


def test_a_request_that_outlasts_the_drain_is_answered_503(run: Callable[..., Running]) -> None:
    service = run(drain_s=0.2)
    assert service.is_ready.wait(30)
    service.engine.gate.clear()
    answers: list[tuple[int, Any]] = []
    client = threading.Thread(
        target=lambda: answers.append(service.ask("POST", "/embed", {"texts": ["a"]}))
    )
    client.start()
    assert service.engine.entered.wait(30)
    with socket.create_connection(("127.0.0.1", service.port)) as hung:
        hung.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        service.stop.request()
        service.join()
    client.join()
    assert (answers[0][0], answers[0][1]["type"]) == (503, "urn:sidecar:problem:stopping")
    assert service.code == 0
