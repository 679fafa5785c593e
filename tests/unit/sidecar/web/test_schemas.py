from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sidecar.problems import Problem
from sidecar.web.schemas import EmbedFileRequest, EmbedRequest, validate
from tests.support.stub_engine import StubEngine


def refused(kind: Any, value: dict[str, Any]) -> str:
    with pytest.raises(Problem) as caught:
        validate(value, kind)
    assert caught.value.status == 422
    return caught.value.what


def test_the_defaults_are_those_of_v1() -> None:
    asked = validate({"texts": ["a"]}, EmbedRequest)
    assert (asked.normalize, asked.pooling, asked.batch_size) == (True, "mean", 16)
    file = validate({"path": "p"}, EmbedFileRequest)
    assert (file.chunk_size, file.chunk_overlap, file.max_chunks) == (800, 100, 200)
    assert file.normalize is True


def test_a_problem_names_the_field_and_its_place_but_not_the_value() -> None:
    assert refused(EmbedRequest, {"texts": ["a", 1]}).startswith("texts.1: ")
    assert "median" not in refused(EmbedRequest, {"texts": [], "pooling": "median"})


def test_one_error_is_collected_however_many_texts_are_wrong() -> None:
    with pytest.raises(Problem) as caught:
        validate({"texts": ["a", *[0] * 1_000]}, EmbedRequest)
    assert caught.value.what == "texts.1: Input should be a valid string"
    assert isinstance(caught.value.__cause__, ValidationError)
    assert caught.value.__cause__.error_count() == 1


@pytest.mark.parametrize(
    ("value", "sizes"),
    [
        ({}, (800, 100)),
        ({"chunk_size": 80}, (80, 10)),
        ({"chunk_size": 1}, (1, 0)),
        ({"chunk_size": 80, "chunk_overlap": 79}, (80, 79)),
        ({"unit": "tokens"}, (8, 1)),
        ({"unit": "tokens", "chunk_size": 64, "chunk_overlap": 0}, (64, 0)),
    ],
    ids=str,
)
def test_sizes_follow_the_unit(value: dict[str, Any], sizes: tuple[int, int]) -> None:
    asked = validate({"path": "p", **value}, EmbedFileRequest)
    found = asked.chunking(StubEngine(), prompt_tokens=0)
    assert (found.size, found.overlap) == sizes


@pytest.mark.parametrize(
    "value",
    [{"chunk_size": 5, "chunk_overlap": 5}, {"unit": "tokens", "chunk_overlap": 8}],
    ids=str,
)
def test_an_overlap_as_long_as_the_chunk_is_refused(value: dict[str, Any]) -> None:
    asked = validate({"path": "p", **value}, EmbedFileRequest)
    with pytest.raises(Problem) as caught:
        asked.chunking(StubEngine(), prompt_tokens=0)
    assert caught.value.status == 422


@pytest.mark.parametrize("name", ["chunk_size", "max_chunks"])
def test_lengths_are_positive(name: str) -> None:
    assert refused(EmbedFileRequest, {"path": "p", name: 0}).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", "16"), ("batch_size", True), ("batch_size", 1.5), ("normalize", 1)],
)
def test_a_value_of_another_type_is_refused_and_not_converted(name: str, value: object) -> None:
    assert refused(EmbedRequest, {"texts": [], name: value}).startswith(f"{name}: ")


def test_an_integer_may_be_written_with_a_point() -> None:
    assert validate({"texts": [], "batch_size": 16.0}, EmbedRequest).batch_size == 16
