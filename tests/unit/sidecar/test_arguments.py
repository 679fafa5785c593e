from __future__ import annotations

import argparse
from typing import NoReturn

import pytest

from sidecar.arguments import Parser, did_you_mean, nearest, number

OPTIONS = ["--port", "--token-stdin", "--token-file", "--allow-dir", "--allow-host", "--model"]


class Refused(Exception):  # noqa: N818 - it is what a test expects
    """What a parser said instead of ending the process."""


class Loud(Parser):
    """A parser that raises what it would say."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{self.prog}: {message}")


@pytest.fixture
def parser() -> Loud:
    made = Loud(prog="top")
    commands = made.add_subparsers(dest="command")
    one = commands.add_parser("one")
    one.add_argument("--port", type=number(0, 9))
    one.add_argument("--token-file")
    one.add_argument("rest", nargs="*")
    commands.add_parser("two").add_argument("--kind", choices=("packed", "cpu"))
    return made


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--prot", ["--port"]),
        ("--Port", ["--port"]),
        ("--token", ["--token-stdin", "--token-file"]),
        ("--allow_dir", ["--allow-dir"]),
        ("--al", ["--allow-dir", "--allow-host"]),
        ("--modell", ["--model"]),
        ("--nothing-like-it", []),
        ("--", []),
        ("", []),
    ],
)
def test_the_nearest_name_is_what_it_begins_or_is_spelled_like(
    word: str, expected: list[str]
) -> None:
    assert nearest(word, OPTIONS) == expected


def test_a_name_that_also_begins_another_is_itself_alone() -> None:
    assert nearest("MODEL", ["model-cache", "model"]) == ["model"]


def test_no_question_is_asked_without_an_answer() -> None:
    assert did_you_mean([]) == ""
    assert did_you_mean(["a", "b"]) == "; did you mean a or b?"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one", "--prot", "s3cret"], "top one: unrecognized arguments: --prot; did you mean --p"),
        (["one", "--prot=s3cret"], "top one: unrecognized arguments: --prot; did you mean --p"),
        (["one", "--tok", "s3cret"], "top one: unrecognized arguments: --tok; did you mean --tok"),
        (["one", "--port=--"], "top one: argument --port: expected one argument"),
        (["one", "--port", "10"], "top one: argument --port: '10' is not a whole number from 0 to"),
        (["two", "s3cret"], "top two: unrecognized arguments: 1 that no option takes"),
        (["two", "-x", "s3cret"], "top two: unrecognized arguments: 2 that no option takes"),
        (["two", "--kind", "gpu"], "top two: argument --kind: invalid choice"),
        (["two", "--kind", "paked"], "top two: argument --kind: invalid choice"),
    ],
    ids=str,
)
def test_a_command_tells_its_own_mistakes_without_their_values(
    parser: Loud, words: list[str], said: str
) -> None:
    with pytest.raises(Refused) as caught:
        parser.parse_args(words)
    assert str(caught.value).startswith(said)
    assert "s3cret" not in str(caught.value)
    assert ("did you mean packed?" in str(caught.value)) is (words[-1] == "paked")
    assert "mean cpu" not in str(caught.value)


def test_what_follows_two_dashes_is_not_looked_at(parser: Loud) -> None:
    found = parser.parse_args(["one", "--port", "3", "--", "--port=--", "--prot"])
    assert (found.port, found.rest) == (3, ["--port=--", "--prot"])


def test_an_option_is_spelled_in_full(parser: Loud) -> None:
    with pytest.raises(Refused, match="did you mean --port"):
        parser.parse_args(["one", "--por", "3"])


@pytest.mark.parametrize("text", ["7", "0", "65535", "00080"])
def test_a_number_is_read(text: str) -> None:
    assert number(0, 65_535)(text) == int(text)


@pytest.mark.parametrize("text", ["", "x", "-1", "65536", "1.0", "1_0", "٣", "²", "9" * 5000])
def test_what_is_no_number_in_range_is_refused_in_a_few_words(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole number from 0 to 65535") as caught:
        number(0, 65_535)(text)
    assert len(str(caught.value)) < 80
