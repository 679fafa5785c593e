"""How a real bundle starts, what it says, and every way to end it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.systems import free_port
from sidecar.manifest import read
from tests.support.clients import Answer, Client
from tests.support.running import Running, ended, program, running

POLL_SECONDS = 0.02
LONG = ["a long way " * 200] * 4_000


@dataclass(kw_only=True)
class Life:
    """One life, from the first answer to the exit code."""

    health: list[Answer] = field(default_factory=list)
    early: Answer | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    pid: int = 0
    last: Answer | None = None
    during: list[int] = field(default_factory=list)
    code: int = -1
    rest: str = ""


def first_answer(client: Client, service: Running) -> Answer:
    """Return the first answer of /health, from a service that is still binding its port."""
    while True:
        try:
            return client.ask("/health")
        except OSError:
            assert service.process.poll() is None, service.log
            time.sleep(POLL_SECONDS)


@pytest.fixture(scope="module")
def life(bundle: Path) -> Life:
    """Return what was seen of a service that POST /shutdown ended while it was at work."""
    seen = Life()
    client = Client(port=free_port())
    with running([*program(bundle), "--port", str(client.port)]) as service:
        seen.health.append(first_answer(client, service))
        seen.early = client.ask("/embed", {"texts": ["too early"]})
        while seen.health[-1].status != 200:
            assert service.process.poll() is None, service.log
            time.sleep(POLL_SECONDS)
            seen.health.append(client.ask("/health"))
        service.wait_ready()
        seen.events, seen.pid = service.events, service.process.pid

        def work() -> None:
            seen.during.append(client.ask("/embed", {"texts": LONG[:8]}).status)

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(POLL_SECONDS)
        seen.last = client.ask("/shutdown", method="POST")
        worker.join()
        seen.code = service.process.wait()
        assert service.process.stdout is not None
        seen.rest = service.process.stdout.read()
    return seen


def test_bundle_page_shows_the_command_of_these_tests(bundle: Path) -> None:
    home = "bundle/out/linux-x64"
    words = [word.replace(str(bundle), home) for word in program(bundle)]
    text = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")
    assert f"\n{' '.join(words)} --port 8421\n" in text


def test_health_answers_503_with_the_phase_until_the_model_serves(life: Life) -> None:
    first, last = life.health[0], life.health[-1]
    assert first.status == 503
    assert first.json()["status"] == "loading"
    assert first.json()["model"] is None
    assert (last.status, last.json()["status"], last.json()["phase"]) == (200, "ok", "ready")
    phases = list(dict.fromkeys(answer.json()["phase"] for answer in life.health))
    order = ["starting", "verifying", "importing", "loading", "checking", "ready"]
    assert phases == [phase for phase in order if phase in phases]
    assert "verifying" in phases  # the others may pass between two looks
    for answer in life.health:
        assert answer.json()["models"][0]["phase"] == answer.json()["phase"]
    assert {answer.json()["instance"] for answer in life.health} == {last.json()["instance"]}


def test_a_request_that_comes_before_the_model_is_told_to_come_again(life: Life) -> None:
    assert life.early is not None
    assert life.early.status == 503
    assert int(life.early.headers["retry-after"]) >= 1
    assert life.early.json()["detail"]


def test_its_lines_name_the_model_the_dimensions_the_port_and_the_process(
    life: Life, bundle: Path
) -> None:
    model = read(bundle).models[0]
    last = life.health[-1].json()
    assert life.events[1] == {
        "type": "model_loaded",
        "data": {"model": model.repository, "dimensions": model.dim},
    }
    kind, data = life.events[2]["type"], life.events[2]["data"]
    assert kind == "ready"
    assert data["pid"] == life.pid
    assert data["instance"] == last["instance"]
    assert data["port"] > 0
    assert life.rest == ""


def test_shutdown_answers_202_and_what_is_running_and_ends_with_0(life: Life) -> None:
    assert life.last is not None
    assert life.last.status == 202
    assert life.during[0] in (200, 503)
    assert life.code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_loads_ends_it_with_0(bundle: Path, number: int) -> None:
    client = Client(port=free_port())
    with running([*program(bundle), "--port", str(client.port)]) as service:
        assert first_answer(client, service).status == 503
        assert service.stop(number) == 0
        assert service.process.stdout is not None
        assert '"ready"' not in service.process.stdout.read()


def test_a_second_signal_ends_it_at_once_though_it_is_at_work(bundle: Path) -> None:
    with running([*program(bundle), "--port", "0"]) as service:
        client = Client(port=service.wait_ready())
        broken: list[BaseException] = []

        def work() -> None:
            try:
                client.ask("/embed", {"texts": LONG})
            except (OSError, http.client.HTTPException) as error:
                broken.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert service.stop(signal.SIGTERM) == 128 + signal.SIGTERM
        worker.join()
        assert broken


def test_a_taken_port_ends_it_with_3_before_the_model_is_looked_at(bundle: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ended([*program(bundle), "--port", str(port)])
    assert done.returncode == 3
    last = json.loads(done.stderr.splitlines()[-1])
    assert f"port {port} " in last["message"]
    assert "--port" in last["next"]
    assert "verifying" not in done.stderr
    assert done.stdout == ""


def test_two_services_of_one_bundle_cannot_take_one_port(bundle: Path) -> None:
    client = Client(port=free_port())
    command = [*program(bundle), "--port", str(client.port)]
    with running(command) as service:
        first_answer(client, service)
        assert ended(command).returncode == 3
        assert service.stop() == 0
