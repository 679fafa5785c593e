"""Clients of other services, as their users have them, against a real bundle.

Of what they are told, the address, the key and the name of the model are ours. They reach nothing
but the service.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.clients import worst_cosine
from tests.support.clientspage import CLIENTS, PAGE, Client, table
from tests.support.foreign import (
    ALL,
    QUICK,
    Asked,
    Services,
    node_command,
    own_command,
    python_command,
    services,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from _pytest.mark import ParameterSet

    Ask = Callable[[Client], Asked]

MODEL = "all-minilm"
SAME = 0.999999
TEXTS = [
    "the tide tables for Tuesday",
    "潮汐表在星期二更新",
    "A text of two sentences. Here is the second.",
    "½ 42 3.14 1e-9",
    "🌊🛶 👩🏽‍🚒 🇵🇹",
]
LONG = "word " * 2_000
# What is said of a name that is not served, of a key that is not the token, of token ids.
UNKNOWN, NO_TOKEN = "this service has minilm", "the token is missing or wrong"
IDS = "check_embedding_ctx_length=False"
# To an address that no machine has.
OUTSIDE = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), 5)
except OSError as error:
    print(error.errno)
print(*sorted(name for _, name in socket.if_nameindex()))
"""


@pytest.fixture(scope="module")
def serving(lean: Path) -> Iterator[Services]:
    with services(lean) as found:
        yield found


def started(client: Client) -> list[str]:
    """Return the command that lets a client ask."""
    if client.is_ours:
        return own_command(client.name)
    command = node_command if client.language == "node" else python_command
    return command(client.name, QUICK if client.is_quick else ALL)


@pytest.fixture(scope="module")
def asked(serving: Services) -> Ask:
    """Return what asks by a client, once for all tests of it."""
    known: dict[Client, Asked] = {}

    def ask(client: Client) -> Asked:
        if client not in known:
            known[client] = serving.ask(started(client), model=MODEL, texts=TEXTS, long=LONG)
        return known[client]

    return ask


@pytest.fixture(scope="module")
def ours(serving: Services) -> Asked:
    """Return what our own API gives for the same texts."""
    return serving.ask(own_command("ours"), model=MODEL, texts=TEXTS, long=LONG)


def params(*names: str) -> list[ParameterSet]:
    """Return the clients of these names, or all; those that not every run asks are at full size."""
    return [
        pytest.param(
            client,
            id=f"{client.language}-{client.name}",
            marks=() if client.is_quick else pytest.mark.full,
        )
        for client in CLIENTS
        if not names or f"{client.language}-{client.name}" in names
    ]


every_client = pytest.mark.parametrize("client", params())


def check_same(found: object, own: object) -> None:
    rows, expected = np.atleast_2d(np.array(found, "f4")), np.atleast_2d(np.array(own, "f4"))
    assert worst_cosine(rows, expected) >= SAME


def check_refused(got: Asked, case: str, error: str, said: str) -> None:
    found, words = got.refused(case)
    assert found == error, words
    assert said in words


def test_clients_reach_nothing_but_loopback(serving: Services) -> None:
    done = serving.run([sys.executable, "-c", OUTSIDE])
    assert done.stdout.split() == [str(errno.ENETUNREACH), "lo"], done.stderr


def test_table_of_clients_has_the_locked_versions() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), "ci/clients writes it"


@every_client
def test_a_client_gets_our_vectors(asked: Ask, ours: Asked, client: Client) -> None:
    got = asked(client)
    for case in ("one", "many", "right"):
        check_same(got.given(case), ours.given(case))
    assert got.outside == list(client.outside)


@every_client
def test_an_empty_text_has_a_vector_or_none(asked: Ask, ours: Asked, client: Client) -> None:
    got = asked(client)
    if client.empty:
        check_refused(got, "empty", client.empty, "")
    elif client.empty is not None:
        assert got.given("empty") is None
    else:
        check_same(got.given("empty"), ours.given("empty"))


@every_client
def test_a_client_without_texts_gets_none_or_an_error(asked: Ask, client: Client) -> None:
    got = asked(client)
    if client.none:
        check_refused(got, "none", client.none, "")
    else:
        assert got.given("none") == []


@every_client
def test_a_text_that_is_too_long_is_cut_or_refused(asked: Ask, ours: Asked, client: Client) -> None:
    got = asked(client)
    if client.long:
        check_refused(got, "long", client.long, "exceeds the context length")
    else:
        check_same(got.given("long"), ours.given("long"))


@every_client
def test_the_name_of_another_model_is_refused(asked: Ask, ours: Asked, client: Client) -> None:
    got = asked(client)
    if client.other:
        check_refused(got, "other", client.other, UNKNOWN)
    else:
        check_same(got.given("other"), ours.given("one"))


@every_client
def test_a_wrong_key_is_refused(asked: Ask, client: Client) -> None:
    check_refused(asked(client), "wrong", client.wrong, "" if client.hides else NO_TOKEN)


@pytest.mark.parametrize("client", params("python-openai", "node-openai"))
def test_openai_gets_the_same_as_numbers(asked: Ask, ours: Asked, client: Client) -> None:
    got = asked(client)
    check_same(got.given("floats"), ours.given("query"))
    assert got.given("names") == ["minilm"]


@pytest.mark.parametrize("client", params("python-openai"))
def test_token_ids_of_openai_are_refused(asked: Ask, client: Client) -> None:
    check_refused(asked(client), "tokens", "BadRequestError", IDS)


@pytest.mark.parametrize("client", params("python-langchain_openai"))
def test_langchains_default_is_refused_by_its_setting(asked: Ask, client: Client) -> None:
    check_refused(asked(client), "defaults", "BadRequestError", IDS)


@pytest.mark.parametrize("client", params("python-ollama", "node-ollama"))
def test_ollama_lists_shows_and_pulls_the_model(asked: Ask, ours: Asked, client: Client) -> None:
    got = asked(client)
    check_same(got.given("older"), ours.given("query"))
    assert {"minilm:latest", "all-minilm:latest", "all-minilm:22m"} <= set(got.given("names"))
    assert got.given("shown") == ["embedding"]
    assert got.given("pulled")[-1] == "success"
    check_refused(got, "refused", "ResponseError", "exceeds the context length")


@pytest.mark.parametrize("client", params("python-ollama"))
def test_ollama_is_told_that_the_model_writes_no_text(asked: Ask, client: Client) -> None:
    got = asked(client)
    assert got.given("running") == ["minilm:latest"]
    check_refused(got, "generated", "ResponseError", "does not support generate")


@pytest.mark.parametrize("client", params("python-huggingface_hub"))
def test_the_hubs_client_compares_and_may_refuse_to_cut(asked: Ask, client: Client) -> None:
    got = asked(client)
    assert int(np.argmax(got.given("similar"))) == 2
    check_refused(got, "refused", "HfHubHTTPError", "the model reads 256")


@pytest.mark.parametrize(
    "client",
    params("python-chromadb_openai", "python-chromadb_ollama", "python-chromadb_huggingface"),
)
def test_chroma_finds_the_nearest_document(asked: Ask, client: Client) -> None:
    assert asked(client).given("nearest") == ["a place for ships"]


@pytest.mark.parametrize("client", params("node-langchain_ollama"))
def test_langchain_for_node_cuts_if_it_is_told_to(asked: Ask, ours: Asked, client: Client) -> None:
    check_same(asked(client).given("cut"), ours.given("cut"))
