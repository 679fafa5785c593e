"""The vectors of a running bundle, held against sentence-transformers on the same weights."""

from __future__ import annotations

import base64
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bundler.launch import RunningService, command
from tests.smoke.conftest import COUNT
from tests.support.clients import BINARY, Client, worst_cosine
from tests.support.mixture import Answered, Mixture, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.reference import Reference

SAME = 0.99999
START_SECONDS = 180
# Rounding in float32, which depends on what a text is batched with.
ROUNDING = 2e-6


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[Client]:
    with RunningService.start(command(bundle, ["--port", "0"]), environment={}) as service:
        service.wait_ready(START_SECONDS)
        yield Client(port=service.port)
        assert service.stop() == 0


@pytest.fixture(scope="module")
def answered(client: Client, texts: list[str]) -> np.typing.NDArray[np.float32]:
    return client.embed(texts)


def test_two_hundred_texts_get_the_vectors_of_sentence_transformers(
    answered: np.typing.NDArray[np.float32], truth: Reference
) -> None:
    worst = worst_cosine(answered, truth.encoded)
    print(f"worst cosine of {COUNT} texts: {worst:.9f}")  # noqa: T201 - shown with -s
    assert answered.shape == (COUNT, 384)
    assert worst >= SAME
    np.testing.assert_allclose(answered, truth.encoded, atol=1e-5)


def test_every_vector_has_length_one(answered: np.typing.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(np.linalg.norm(answered, axis=1), 1, atol=1e-6)


def test_a_batch_gives_what_its_texts_give_one_by_one(
    client: Client, texts: list[str], answered: np.typing.NDArray[np.float32]
) -> None:
    picked = range(0, COUNT, 4)
    alone = np.concatenate([client.embed([texts[index]]) for index in picked])
    np.testing.assert_allclose(alone, answered[list(picked)], atol=ROUNDING)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 10_000])
def test_the_size_of_batches_changes_nothing(
    client: Client, texts: list[str], answered: np.typing.NDArray[np.float32], batch_size: int
) -> None:
    got = client.embed(texts[60:90], batch_size=batch_size)
    np.testing.assert_allclose(got, answered[60:90], atol=ROUNDING)


def test_raw_rows_and_base64_are_what_the_numbers_are(client: Client, texts: list[str]) -> None:
    # One text is one batch; how several are cut into batches follows the speed of the moment.
    one, few = texts[:1], texts[:24]
    numbers = client.embed(one)
    packed = client.ask("/embed", {"texts": one, "encoding": "base64"}).json()["vectors"]
    rows = np.stack([np.frombuffer(base64.b64decode(row), "<f4") for row in packed])
    np.testing.assert_array_equal(rows, numbers)
    answer = client.ask("/embed", {"texts": one}, headers={"accept": BINARY})
    np.testing.assert_array_equal(np.frombuffer(answer.body, "<f4"), numbers[0])
    answer = client.ask("/embed", {"texts": few}, headers={"accept": BINARY})
    headers, rows = answer.headers, np.frombuffer(answer.body, "<f4").reshape(len(few), -1)
    np.testing.assert_allclose(rows, client.embed(few), atol=ROUNDING)
    asked = client.ask("/embed", {"texts": few}).json()
    assert headers["x-sidecar-count"] == "24"
    assert headers["x-sidecar-dim"] == str(asked["dim"]) == "384"
    assert headers["x-sidecar-fingerprint"] == asked["fingerprint"]
    assert headers["x-sidecar-truncated"] == ",".join(map(str, asked["truncated"]))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_every_pooling_is_that_of_the_token_vectors(
    client: Client, texts: list[str], truth: Reference, pooling: str, *, normalize: bool
) -> None:
    picked = list(range(0, COUNT, 5))
    expected = getattr(truth, pooling)[picked]
    if normalize:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    got = client.embed([texts[i] for i in picked], pooling=pooling, normalize=normalize)
    assert worst_cosine(got, expected) >= SAME
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_poolings_and_lengths_are_spaces_of_their_own(client: Client) -> None:
    asked: list[dict[str, object]] = [
        {},
        {"pooling": "mean", "normalize": True},
        {"pooling": "cls"},
        {"pooling": "max"},
        {"normalize": False},
    ]
    prints = [
        client.ask("/embed", {"texts": ["tide"], **fields}).json()["fingerprint"]
        for fields in asked
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
    assert client.ask("/info").json()["fingerprint"] == prints[0]


def test_cut_texts_are_told_by_index_and_real_length(
    client: Client,
) -> None:
    limit = client.ask("/info").json()["max_tokens"]
    texts = ["short", "word " * (limit - 2), "word " * (limit - 1), ""]
    answer = client.ask("/embed", {"texts": texts}).json()
    assert answer["tokens"] == [3, limit, limit + 1, 2]
    assert answer["truncated"] == [2]
    refused = client.ask("/embed", {"texts": texts, "truncate": False})
    assert refused.status == 422
    assert "texts.2" in refused.json()["detail"]


def test_no_texts_get_no_vectors(client: Client) -> None:
    answer = client.ask("/embed", {"texts": []})
    assert answer.status == 200
    assert answer.json()["vectors"] == []


def test_clients_at_once_all_get_their_own_vectors(client: Client, tmp_path: Path) -> None:
    answered: list[Answered] = []
    failures: Counter[str] = Counter()
    kinds = ("single", "pair", "few")
    plan = ((0.0, kinds[number % len(kinds)]) for number in range(320))
    load(Mixture(client.port, tmp_path), plan, answered, failures, clients=32)
    assert not failures
    assert len(answered) == 320


def test_health_answers_while_a_long_request_is_at_work(client: Client, texts: list[str]) -> None:
    """The event loop computes nothing, so it is there while others wait for vectors."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        long = pool.submit(client.embed, texts)
        found = client.ask("/health")
        assert not long.done()
        assert long.result().shape == (COUNT, 384)
    assert found.status == 200
    health = found.json()
    assert (health["status"], health["phase"], health["device"]) == ("ok", "ready", "cpu")
    assert health["dim"] == 384


def test_a_service_that_was_given_no_folder_reads_no_file(client: Client, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("private", encoding="utf-8")
    answer = client.ask("/embed-file", {"path": str(tmp_path / "note.txt")})
    assert answer.status == 403
    assert "--allow-dir" in answer.json()["next"]
