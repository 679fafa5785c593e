from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from bundler.bench.corpus import DEBIAN, PYTHON, gather, histogram, is_prose, titled

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("rivers", "names", "objects", "calls", "values", "scopes", "loops", "strings")


def sentence(number: int) -> str:
    first = WORDS[number % 8]
    second = WORDS[number // 8 % 8]
    letters = "x" * (number + 1)
    return f"The {first} of paragraph {letters} are bound to the {second} that stand beside it."


TOPIC = "\n\n".join(
    ["Assignment\n**********", *(sentence(number) for number in range(6)), "   >>> print(1)"]
)


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "doc"
    (made / "a").mkdir(parents=True)
    (made / "a" / "README.gz").write_bytes(gzip.compress(sentence(10).encode()))
    (made / "a" / "notes.txt").write_text(f"{sentence(11)}\n\n{sentence(12)}\n", encoding="utf-8")
    (made / "a" / "broken.txt.gz").write_bytes(b"\x1f\x8b nothing")
    (made / "a" / "latin.txt").write_bytes(sentence(13).encode() + b"\xe9")
    (made / "a" / "copyright").write_text(sentence(14), encoding="utf-8")
    return made


def test_paragraphs_stand_under_the_last_title() -> None:
    found = list(titled(TOPIC))
    assert [paragraph.text for paragraph in found] == [sentence(number) for number in range(6)]
    assert {paragraph.title for paragraph in found} == {"Assignment"}


def test_code_tables_and_headings_are_no_prose() -> None:
    assert is_prose(sentence(1))
    assert not is_prose("if x == 1: y[0] = {2: 3}; print(x, y, sep='') # 1 + 2 + 3 + 4 = 10")
    assert not is_prose("Assignment statements")
    assert not is_prose("word " * 1000)


def test_half_is_from_each_source_where_both_have_enough(tmp_path: Path) -> None:
    corpus = gather(6, topics=[TOPIC], folder=folder(tmp_path))
    assert corpus.sources() == {PYTHON: 3, DEBIAN: 3}


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    texts = gather(100, topics=[], folder=folder(tmp_path)).texts
    assert sorted(texts) == sorted([sentence(10), sentence(11), sentence(12)])


def test_without_a_folder_the_topics_give_everything() -> None:
    corpus = gather(4, topics=[TOPIC], folder=None)
    assert corpus.sources() == {PYTHON: 4}


def test_the_order_of_the_sources_changes_nothing(tmp_path: Path) -> None:
    other = "\n\n".join(sentence(number) for number in range(20, 24))
    documentation = folder(tmp_path)
    left = gather(8, topics=[TOPIC, other], folder=documentation)
    right = gather(8, topics=[other, TOPIC], folder=documentation)
    assert left.texts == right.texts
    assert left.digest == right.digest
    assert gather(7, topics=[TOPIC, other], folder=None).digest != left.digest


def test_a_text_is_taken_once() -> None:
    assert len(gather(10, topics=[TOPIC, TOPIC], folder=None).texts) == 6


def test_every_text_is_in_one_bin_of_the_histogram() -> None:
    rows = histogram([1, 8, 9, 128, 300])
    assert sum(count for _, count in rows) == 5
    assert dict(rows)["1-8"] == 2
    assert dict(rows)["257-300"] == 1
