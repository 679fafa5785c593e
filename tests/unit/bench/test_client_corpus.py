from __future__ import annotations

from bench.client import gather_corpus, paragraphs

WORDS = ("rivers", "names", "objects", "calls", "values", "scopes", "loops", "strings")


def sentence(number: int) -> str:
    first, second = WORDS[number % 8], WORDS[number // 8 % 8]
    return f"The {first} of paragraph {'x' * (number + 1)} are bound to the {second} beside it."


DOCUMENT = "\n\n".join(
    ["Assignment\n**********", *(sentence(number) for number in range(6)), "   >>> print(1)"]
)


def test_code_tables_and_headings_are_no_prose() -> None:
    assert list(paragraphs(DOCUMENT)) == [sentence(number) for number in range(6)]
    code = "if x == 1: y[0] = {2: 3}; print(x, y, sep='') # 1 + 2 + 3 + 4 = 10"
    assert list(paragraphs(f"{code}\n\nAssignment statements\n\n{'word ' * 1000}")) == []


def test_lines_of_a_paragraph_become_one() -> None:
    assert list(paragraphs(sentence(1).replace(" ", "\n  "))) == [sentence(1)]


def test_the_order_of_the_sources_changes_nothing() -> None:
    other = "\n\n".join(sentence(number) for number in range(20, 24))
    left, right = gather_corpus(8, [DOCUMENT, other]), gather_corpus(8, [other, DOCUMENT, DOCUMENT])
    assert left == right
    assert len(set(left)) == 8
    assert gather_corpus(7, [DOCUMENT, other]) != left


def test_python_has_enough_for_a_full_measurement() -> None:
    assert len(gather_corpus(1024)) == 1024
