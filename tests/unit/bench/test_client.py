from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bench.client import Connection, beside_bulk, parts, send_all
from bench.systems import SIDECAR, free_port
from bundler.errors import SmokeError
from tests.unit.bench.conftest import server

TEXTS = [f"text {number}" for number in range(12)]
SMALL = replace(SIDECAR, largest=5)


def test_a_list_is_cut_into_parts_without_loss() -> None:
    assert parts(list("abcde"), 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert parts([], 3) == []


def test_a_large_batch_is_sent_in_parts_of_the_same_texts() -> None:
    with server(SMALL) as (connect, seen), connect() as connection:
        seconds, bodies = connection.embed(TEXTS)
    assert seconds > 0
    assert [text for _, body in seen.bodies for text in body["texts"]] == TEXTS
    assert [len(body["texts"]) for _, body in seen.bodies] == [5, 5, 2]
    assert SMALL.vectors(bodies).tolist() == [[1.0, 2.0]] * 12


def test_fields_of_an_api_go_into_every_request() -> None:
    api = replace(SIDECAR, path="/v1/x", texts="input", fields={"model": "m"})
    with server(api, answer={"vectors": []}) as (connect, seen), connect() as connection:
        connection.embed(["é"])
    assert seen.bodies == [("/v1/x", {"input": ["é"], "model": "m"})]


def test_a_request_that_fails_ends_the_measurement() -> None:
    with server(refuses="text 1") as (connect, _), connect() as connection:
        connection.embed(["text 0"])
        with pytest.raises(SmokeError) as caught:
            connection.embed(["text 1"])
    assert "status 500" in caught.value.why


def test_no_server_is_a_response_of_status_0() -> None:
    answer = Connection(free_port(), SIDECAR).post(b"{}")
    assert (answer.status, answer.is_ok) == (0, False)


@pytest.mark.parametrize("body", [b"no json", b"{}", b'{"vectors": [["x"]]}'])
def test_a_response_without_vectors_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        SIDECAR.vectors([body])


def test_clients_send_at_the_same_time_and_keep_the_order() -> None:
    bodies = [json.dumps({"texts": [text]}).encode() for text in TEXTS]
    with server(together=4) as (connect, seen):
        answers = send_all(connect, bodies, clients=4)
    assert [answer.status for answer in answers] == [200] * 12
    assert seen.most == 4


def test_one_client_sends_one_after_the_other() -> None:
    bodies = [json.dumps({"texts": [text]}).encode() for text in TEXTS]
    with server() as (connect, seen):
        send_all(connect, bodies, clients=1)
    assert [body["texts"] for _, body in seen.bodies] == [[text] for text in TEXTS]
    assert seen.most == 1


def test_single_texts_are_timed_alone_and_beside_bulk() -> None:
    with server() as (connect, seen):
        alone, beside = beside_bulk(connect, TEXTS[:3], TEXTS, pause_s=0.001)
    assert (len(alone), len(beside)) == (3, 3)
    sizes = [len(body["texts"]) for _, body in seen.bodies]
    assert sizes[:3] == [1, 1, 1]
    assert sizes.count(12) > 0


def test_a_bulk_client_that_is_refused_ends_the_measurement() -> None:
    with server(refuses="text 11") as (connect, _), pytest.raises(SmokeError):
        beside_bulk(connect, TEXTS[:3], TEXTS, pause_s=0.001)


def test_seconds_are_the_servers_own_where_it_says_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Response:
        status = 200

        def read(self) -> bytes:
            return b"{}"

        def getheader(self, name: str) -> str:
            return {"X-Seconds": "12.5"}[name]

    connection = Connection(1, SIDECAR)
    made: Any = connection._http
    monkeypatch.setattr(made, "request", lambda *_: None)
    monkeypatch.setattr(made, "getresponse", partial(Response))
    assert connection.post(b"{}").seconds == 12.5
