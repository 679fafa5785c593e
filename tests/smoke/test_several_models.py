"""minilm and mpnet in one service at full size: mixed requests, and memory that is given back."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from sidecar.engines import Unloaded
from sidecar.manifest import Manifest, Model, read
from sidecar.models import golden, snapshot
from sidecar.models.loader import Loaded
from tests.smoke.conftest import OUT_OF_REACH, assembly, given, path_of
from tests.support.clients import Client
from tests.support.lacking import lack
from tests.support.mixed_models import Mix, Truth, counted, phases
from tests.support.running import program, running
from tests.support.vitals import MIB, memory

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for the memory"),
]
NAMES = ("minilm", "mpnet")
CLIENTS = 64
CYCLES = 5
WAIT_S = 60
# The weights of mpnet in half precision are copied: so much is private, and given back.
PRIVATE_BYTES = 150 * MIB
# What glibc keeps at the top of a thread's heap for the next large block, and some of another's.
NOISE_BYTES = 96 * MIB


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a lean bundle with both models, made here or named by SIDECAR_MODELS_BUNDLE."""
    named = given("SIDECAR_MODELS_BUNDLE")
    if named is not None:
        return named
    models = [word for name in NAMES for word in ("--model", name)]
    place = tmp_path_factory.mktemp("two") / "bundle"
    done = assembly("--profile", "lean", *models, "--output", str(place))
    if done.returncode == OUT_OF_REACH:
        lack(done.stderr)
    return path_of(done)


def truth(bundle: Path, found: Manifest, model: Model) -> Truth:
    """Return the reference vectors of a model, which sentence-transformers made."""
    assert model.golden is not None
    held = golden.read(bundle / model.golden)
    known = Loaded(engine=Unloaded(space="exact"), snapshot=snapshot.listed(bundle, found, model))
    return Truth(
        name=model.aliases[0],
        repository=model.repository,
        fingerprint=known.fingerprint(),
        texts=held.texts,
        rows=held.vectors,
    )


@pytest.fixture(scope="module")
def truths(two: Path) -> list[Truth]:
    found = read(two)
    return [truth(two, found, model) for model in found.models]


def leave(port: int, name: str, repository: str) -> None:
    """Let a model be unloaded, and wait until it is."""
    body = {"model": name, "input": "a", "keep_alive": 0}
    assert Client(port=port).ask("/api/embed", body).status == 200
    deadline = time.monotonic() + WAIT_S
    while phases(port)[repository] != "unloaded":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def given_back(pid: int, most: int) -> int:
    """Return the private memory of `pid` once it is below `most`, or after a while."""
    deadline = time.monotonic() + WAIT_S
    while (found := memory(pid, "RssAnon")) > most and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_64_clients_mix_minilm_and_mpnet_which_goes_and_comes_meanwhile(
    two: Path, truths: list[Truth]
) -> None:
    small, large = truths
    with running([*program(two), "--port", "0", "--idle-unload", "600"]) as service:
        port = service.wait_ready()
        mix = Mix(port=port, truths=truths)
        mix.run(CLIENTS, 3)
        others = threading.Thread(target=mix.run, args=(CLIENTS, 6), kwargs={"only": [0]})
        others.start()
        leave(port, large.name, large.repository)
        others.join()
        mix.run(CLIENTS, 3)
        assert mix.wrong == []
        assert mix.right == CLIENTS * 12
        assert counted(port, "loads") == {small.repository: 1, large.repository: 2}
        assert counted(port, "unloads") == {small.repository: 0, large.repository: 1}
        assert service.stop() == 0


def test_64_clients_are_answered_where_one_of_both_fits_at_a_time(
    two: Path, truths: list[Truth]
) -> None:
    with running([*program(two), "--port", "0", "--max-memory", "500"]) as service:
        port = service.wait_ready()
        mix = Mix(port=port, truths=truths)
        mix.run(CLIENTS, 3)
        assert mix.wrong == []
        assert mix.right == CLIENTS * 3
        assert all(counted(port, "unloads").values())
        assert service.stop() == 0


def test_memory_of_an_unloaded_model_is_given_back_each_time(
    two: Path, truths: list[Truth]
) -> None:
    small, large = truths
    with running([*program(two), "--port", "0", "--idle-unload", "600"]) as service:
        port, pid = service.wait_ready(), service.process.pid
        service.wait_loaded()
        client = Client(port=port)
        client.embed(list(small.texts), model=small.name)
        before = memory(pid, "RssAnon")
        for _ in range(CYCLES):
            client.embed(list(large.texts), model=large.name)
            with_both = memory(pid, "RssAnon")
            assert with_both > before + PRIVATE_BYTES
            leave(port, large.name, large.repository)
            most = before + NOISE_BYTES
            assert given_back(pid, most) <= most
        assert service.stop() == 0
