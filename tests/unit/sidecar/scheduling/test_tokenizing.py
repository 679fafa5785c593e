from __future__ import annotations

import random

from sidecar.scheduling.tokenizing import PromptedTexts, lengths_of, slices, turns


def test_slices_keep_the_order_and_both_limits() -> None:
    assert slices([], max_rows=2, max_total=10) == []
    assert slices([99], max_rows=2, max_total=10) == [slice(0, 1)]
    chance = random.Random(11)
    for _ in range(50):
        lengths = [chance.randint(0, 40) for _ in range(chance.randint(1, 60))]
        rows, total = chance.randint(1, 9), chance.randint(1, 80)
        made = slices(lengths, max_rows=rows, max_total=total)
        assert [length for part in made for length in lengths[part]] == lengths
        for part in made:
            assert 1 <= len(lengths[part]) <= rows
            assert sum(lengths[part]) <= total or len(lengths[part]) == 1


def test_texts_behind_a_prompt_are_made_when_they_are_read() -> None:
    made = PromptedTexts(PromptedTexts(["a", "bcd"], "2 "), "1 ")
    assert list(lengths_of(made)) == [5, 7]
    assert made[:] == ["1 2 a", "1 2 bcd"]
    assert made[-1] == "1 2 bcd"


def test_turns_of_a_text_begin_with_white_space_where_there_is_some() -> None:
    text = "aaaa bbbb  ccccc dddddddddddddddd"
    assert [text[a:b] for a, b in turns(text, max_chars=12)] == [
        "aaaa bbbb",
        "  ccccc",
        " ddddddddddd",
        "ddddd",
    ]
    assert list(turns("", max_chars=12)) == []
