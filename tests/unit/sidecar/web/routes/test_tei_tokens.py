"""Tokens of texts and texts of tokens, as text-embeddings-inference tells them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer

from bench import TINY_BERT, TINY_XLMR
from bench.synthetic import write_model
from bundler.assembly.unigram_files import write_unigram
from sidecar.engines.hashed import HashEngine
from sidecar.engines.packed import engine as packed
from sidecar.engines.packed.tokens import TOKENIZER
from sidecar.models.loader import Loaded
from sidecar.models.prompts import Prompts
from sidecar.settings import Limits, Settings
from tests.support.stub_engine import SNAPSHOT, Served
from tests.support.twins import ODD, WORDS, write_graph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx2 import Response

TEXTS = [*WORDS, *ODD]
# Longer than a turn of the tokenizer, of characters that take one to four bytes.
MONSTERS = ["the cat " * 9_000, "日本語 кот \U0001f642 the " * 4_000, "x" * 70_000, " " * 70_000]


@pytest.fixture(scope="module", params=["bert", "xlm-roberta"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Any]]:
    """Yield an app around a seeded model of each kind of vocabulary, and the library's own."""
    shape = {"bert": TINY_BERT, "xlm-roberta": TINY_XLMR}[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "model"
    write_unigram(write_graph(write_model(folder, shape, TEXTS)))
    engine = packed.load(folder, device="cpu", threads=1)
    prompts = Prompts(texts={"query": "日本: "})
    loaded = Loaded(engine=engine, snapshot=SNAPSHOT, prompts=prompts)
    made = Served(load=lambda _report: loaded)
    yield made, Tokenizer.from_file(str(folder / TOKENIZER))
    made.close()


def expected(library: Any, text: str, *, adds_special: bool = True) -> list[dict[str, object]]:
    """Return what TEI answers: places in bytes, and none for special tokens."""
    found = library.encode(text, add_special_tokens=adds_special)
    before = [0]
    for character in text:
        before.append(before[-1] + len(character.encode()))
    rows = zip(found.ids, found.tokens, found.offsets, found.special_tokens_mask, strict=True)
    return [
        {"id": one, "text": name, "special": True, "start": None, "stop": None}
        if is_special
        else {
            "id": one,
            "text": text[start:end],
            "special": False,
            "start": before[start],
            "stop": before[end],
        }
        for one, name, (start, end), is_special in rows
    ]


def refused(answer: Response, status: int, kind: str = "Validation") -> str:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "error_type"}
    assert answer.json()["error_type"] == kind
    return str(answer.json()["error"])


@pytest.mark.parametrize("adds_special", [True, False])
def test_tokens_are_those_of_the_library_with_places_in_bytes(
    both: tuple[Served, Any], *, adds_special: bool
) -> None:
    served, library = both
    asked = {"inputs": TEXTS, "add_special_tokens": adds_special}
    found = served.post("/tokenize", asked).json()
    for text, tokens in zip(TEXTS, found, strict=True):
        assert tokens == expected(library, text, adds_special=adds_special), text


def test_one_text_is_a_list_of_one(both: tuple[Served, Any]) -> None:
    served, library = both
    answer = served.post("/tokenize", {"inputs": "the cat"})
    assert answer.json() == [expected(library, "the cat")]
    assert answer.headers["x-sidecar-model"] == SNAPSHOT.repository


@pytest.mark.parametrize("text", MONSTERS, ids=lambda text: repr(text[:9]))
def test_a_monster_is_read_in_turns_with_the_same_tokens(
    both: tuple[Served, Any], text: str
) -> None:
    served, library = both
    (found,) = served.post("/tokenize", {"inputs": text}).json()
    assert found == expected(library, text)


def test_tokens_of_a_prompt_are_told_with_the_texts(both: tuple[Served, Any]) -> None:
    served, library = both
    answer = served.post("/tokenize", {"inputs": ["the cat", ""], "prompt_name": "query"})
    assert answer.json() == [expected(library, "日本: the cat"), expected(library, "日本: ")]
    refused(served.post("/tokenize", {"inputs": "a", "prompt_name": "other"}), 422)


@pytest.mark.parametrize("skips", [True, False])
def test_texts_of_tokens_are_those_of_the_library(both: tuple[Served, Any], *, skips: bool) -> None:
    served, library = both
    ids = [library.encode(text).ids for text in TEXTS]
    asked = {"ids": ids, "skip_special_tokens": skips}
    found = served.post("/decode", asked).json()
    assert found == [library.decode(one, skip_special_tokens=skips) for one in ids]
    assert served.post("/decode", {**asked, "ids": ids[0]}).json() == found[:1]
    written = [float(one) for one in ids[0]]
    assert served.post("/decode", {**asked, "ids": [written, []]}).json() == [found[0], ""]


def test_every_token_is_spelled_as_the_library_spells_it(both: tuple[Served, Any]) -> None:
    served, library = both
    vocabulary = served.encoder.ready().engine.vocabulary
    assert vocabulary is not None
    size = library.get_vocab_size()
    for number in range(size):
        assert vocabulary.spell(number) == library.id_to_token(number), number
    for number in (size, size + 1, 2**32 - 1):
        assert vocabulary.spell(number) is None
    assert served.post("/decode", {"ids": [size, 2**32 - 1]}).json() == [""]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"inputs": [1, 2]}),
        ("/tokenize", {"inputs": ["a", 1]}),
        ("/tokenize", {"inputs": "a", "add_special_tokens": "yes"}),
        ("/decode", {}),
        ("/decode", {"ids": 1}),
        ("/decode", {"ids": ["a"]}),
        ("/decode", {"ids": [1.5]}),
        ("/decode", {"ids": [True]}),
        ("/decode", {"ids": [-1]}),
        ("/decode", {"ids": [2**32]}),
        ("/decode", {"ids": [1, [2]]}),
        ("/decode", {"ids": [[1], 2]}),
        ("/decode", {"ids": [1], "skip_special_tokens": None}),
    ],
    ids=str,
)
def test_what_is_no_text_and_no_id_is_refused(
    served: Served, path: str, asked: dict[str, Any]
) -> None:
    refused(served.post(path, asked), 422)


def test_no_text_to_read_has_a_kind_of_its_own(served: Served) -> None:
    refused(served.post("/tokenize", {"inputs": []}), 400, "Empty")
    refused(served.post("/decode", {"ids": []}), 400, "Empty")


def test_texts_are_bounded_alone_and_together() -> None:
    served = Served(Settings(limits=Limits(max_text_chars=100, max_texts=20)))
    assert served.post("/tokenize", {"inputs": ["x" * 10] * 10}).is_success
    refused(served.post("/tokenize", {"inputs": ["x" * 101]}), 422)
    refused(served.post("/tokenize", {"inputs": ["x"] * 21}), 422)
    assert "together" in refused(served.post("/tokenize", {"inputs": ["x" * 10] * 11}), 422)
    served.close()


def test_other_requests_are_read_between_the_turns(served: Served) -> None:
    vocabulary = served.encoder.ready().engine.vocabulary
    assert vocabulary is not None
    read, order = vocabulary.read, list[str]()

    def watched(text: str) -> Any:
        order.append(text[0])
        return read(text)

    vocabulary.read = watched  # type: ignore[method-assign]

    async def both() -> list[Any]:
        asked = [["a b " * 40] * 200, ["c d " * 40] * 200]
        posts = [served.client.post("/tokenize", json={"inputs": one}) for one in asked]
        return await asyncio.gather(*posts)

    answers = served.run(both())
    assert [len(answer.json()) for answer in answers] == [200, 200]
    assert "ac" in "".join(order)
    assert "ca" in "".join(order)


def test_an_engine_without_a_model_has_no_tokens() -> None:
    served = Served(load=lambda _report: Loaded(engine=HashEngine(), snapshot=SNAPSHOT))
    for path, asked in (("/tokenize", {"inputs": "a"}), ("/decode", {"ids": [1]})):
        assert "no model" in refused(served.post(path, asked), 400)
    served.close()
