"""Prompts are those of the model's file, found as its own library finds them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.errors import ModelError
from sidecar.models import prompts
from sidecar.models.prompts import Prompts
from sidecar.problems import Problem
from tests.support.tinymodel import tiny_model, write_model

if TYPE_CHECKING:
    from pathlib import Path

POOLING = "1_Pooling/config.json"
TEXTS = {"query": "the cat: ", "document": "", "passage": "sat on "}
KNOWN = Prompts(texts=TEXTS)


def written(folder: Path, config: object, **pooling: Any) -> Path:
    files = tiny_model()
    files[prompts.CONFIG] = json.dumps(config).encode()
    files[POOLING] = json.dumps(json.loads(files[POOLING]) | pooling).encode()
    return write_model(folder, files)


def choose(known: Prompts, **asked: Any) -> str:
    return known.choose(**({"name": None, "text": None, "input_type": None} | asked))


def refused(known: Prompts, **asked: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        choose(known, **asked)
    assert caught.value.status == 422
    return caught.value


@pytest.mark.parametrize("config", [{}, {"prompts": None}, {"prompts": {}}, {"prompts": TEXTS}])
def test_prompts_are_those_of_the_models_file(tmp_path: Path, config: dict[str, Any]) -> None:
    found = prompts.read(written(tmp_path, config))
    assert found == Prompts(texts=config.get("prompts") or {})


def test_a_model_without_the_file_has_no_prompts(tmp_path: Path) -> None:
    assert prompts.read(write_model(tmp_path, tiny_model())) == prompts.NONE


@pytest.mark.parametrize("config", [[], {"prompts": ["a"]}, {"prompts": {"query": 1}}])
def test_prompts_that_are_no_texts_end_the_start(tmp_path: Path, config: object) -> None:
    with pytest.raises(ModelError) as caught:
        prompts.read(written(tmp_path, config))
    assert prompts.CONFIG in caught.value.what


@pytest.mark.parametrize(
    ("asked", "prompt"),
    [
        ({}, ""),
        ({"name": "passage"}, "sat on "),
        ({"text": "any "}, "any "),
        ({"text": ""}, ""),
        ({"input_type": "query"}, "the cat: "),
        ({"input_type": "document"}, ""),
    ],
    ids=str,
)
def test_a_prompt_is_had_by_name_by_type_or_as_it_is(asked: dict[str, Any], prompt: str) -> None:
    assert choose(KNOWN, **asked) == prompt


def test_documents_have_the_first_of_three_names() -> None:
    for name, known in (("passage", {"corpus": "c", "passage": "p"}), ("corpus", {"corpus": "c"})):
        assert choose(Prompts(texts=known), input_type="document") == known[name]


def test_an_unknown_name_is_told_those_that_there_are() -> None:
    problem = refused(KNOWN, name="other")
    assert problem.what.startswith("prompt_name: ")
    assert "query, document, passage" in problem.why
    assert "no prompts" in refused(prompts.NONE, name="query").what
    assert refused(Prompts(texts={"query": "a"}), input_type="document").what.startswith("input_")


def test_of_three_wishes_one_is_taken() -> None:
    refused(KNOWN, name="query", text="")
    refused(KNOWN, name="query", input_type="query")
    refused(KNOWN, text="a", input_type="query")


def test_prompts_that_are_not_pooled_are_refused(tmp_path: Path) -> None:
    found = prompts.read(written(tmp_path, {"prompts": TEXTS}, include_prompt=False))
    assert "leave out the tokens" in refused(found, name="query").why
    assert choose(found) == choose(found, name="document") == ""


def test_vectors_are_those_of_the_models_own_library(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed; `python3 build test` has it")
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (heavy)

    from sidecar.engines import reference  # noqa: PLC0415 (heavy)

    config = {"prompts": TEXTS, "default_prompt_name": "passage"}
    folder = written(tmp_path, config)
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    engine = reference.load(folder, device="cpu")
    found = prompts.read(folder)

    def ours(**asked: Any) -> Any:
        (read,) = engine.tokenize([choose(found, **asked) + "a mat"])
        return engine.encode([read.ids], pooling=engine.pooling, normalize=True)

    pairs = {
        "query": (ours(input_type="query"), theirs.encode_query(["a mat"])),
        "document": (ours(input_type="document"), theirs.encode_document(["a mat"])),
        "passage": (ours(name="passage"), theirs.encode(["a mat"], prompt_name="passage")),
        "text": (ours(text="dog "), theirs.encode(["a mat"], prompt="dog ")),
        "none": (ours(), theirs.encode(["a mat"], prompt="")),
    }
    for name, (own, expected) in pairs.items():
        assert np.allclose(own, expected, atol=1e-6), name
    assert not np.allclose(pairs["query"][0], pairs["none"][0], atol=1e-3)
