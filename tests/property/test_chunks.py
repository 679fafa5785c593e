from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.documents.chunking import char_chunks, take, token_chunks
from sidecar.problems import Problem
from sidecar.scheduling.tokenizing import turns

TEXTS = st.text(alphabet=st.sampled_from("ab \n\t\u2003é\U0001f600"), max_size=200)


@st.composite
def sizes(draw: st.DrawFn, largest: int = 60) -> tuple[int, int]:
    """Return a size and an overlap that is smaller."""
    size = draw(st.integers(1, largest))
    return size, draw(st.integers(0, size - 1))


@given(text=TEXTS, measure=sizes())
def test_chunks_cover_every_character_that_is_no_white_space(
    text: str, measure: tuple[int, int]
) -> None:
    size, overlap = measure
    # More chunks than characters would be a loop that does not move on.
    found = list(islice(char_chunks(text, size=size, overlap=overlap), len(text) + 1))
    assert len(found) <= len(text)
    covered = {at for start, end in found for at in range(start, end)}
    assert all(at in covered for at, character in enumerate(text) if not character.isspace())
    for start, end in found:
        assert 0 <= start < end <= len(text)
        assert end - start <= size
        assert text[start:end].strip()


@given(text=TEXTS, measure=sizes())
def test_neighbours_share_the_overlap_or_have_only_white_space_between(
    text: str, measure: tuple[int, int]
) -> None:
    size, overlap = measure
    found = list(char_chunks(text, size=size, overlap=overlap))
    for (start, end), (next_start, next_end) in pairwise(found):
        assert start < next_start
        assert end < next_end
        if next_start < end:
            assert end - next_start <= overlap
        else:
            assert not text[end:next_start].strip()


@given(text=st.text(alphabet="ab", min_size=1, max_size=200), measure=sizes())
def test_without_white_space_chunks_are_as_long_as_they_may_be(
    text: str, measure: tuple[int, int]
) -> None:
    size, overlap = measure
    found = list(char_chunks(text, size=size, overlap=overlap))
    assert all(end - start == size for start, end in found[:-1])
    assert all(end - next_start == overlap for (_, end), (next_start, _) in pairwise(found))
    assert (found[0][0], found[-1][1]) == (0, len(text))


@given(data=st.data(), text=TEXTS, measure=sizes())
def test_token_chunks_cover_every_token_and_share_no_more_than_the_overlap(
    data: st.DataObject, text: str, measure: tuple[int, int]
) -> None:
    size, overlap = measure
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=60)))
    spans = list(pairwise(edges))
    made = token_chunks(text, edges[:-1], edges[1:], size=size, overlap=overlap)
    found = list(islice(made, len(spans) + 1))
    assert len(found) <= len(spans)
    firsts = {start: at for at, (start, _) in enumerate(spans)}
    lasts = {end: at for at, (_, end) in enumerate(spans)}
    tokens = [(firsts[start], lasts[end]) for start, end in found]
    assert {at for first, last in tokens for at in range(first, last + 1)} == set(range(len(spans)))
    assert all(last - first + 1 <= size for first, last in tokens)
    for (first, last), (next_first, next_last) in pairwise(tokens):
        assert first < next_first
        assert last < next_last
        assert overlap // 2 <= last + 1 - next_first <= overlap


@given(words=st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=60))
def test_token_chunks_end_between_words_where_words_are_short(words: list[str]) -> None:
    text = " ".join(words)
    starts = [at for at in range(len(text)) if text[at] != " "]
    ends = [at + 1 for at in starts]
    for start, end in token_chunks(text, starts, ends, size=16, overlap=6):
        assert end == len(text) or text[end] == " "
        assert start == 0 or text[start - 1] == " "


@given(text=TEXTS, most=st.integers(1, 40))
def test_turns_are_the_whole_text_cut_at_white_space(text: str, most: int) -> None:
    found = list(islice(turns(text, max_chars=most), len(text) + 1))
    assert "".join(text[start:end] for start, end in found) == text
    assert all(0 < end - start <= most for start, end in found)
    for (start, end), _ in pairwise(found):
        if end - start < most:
            assert text[end].isspace()
            assert not text[end - 1].isspace()


@given(text=TEXTS, measure=sizes(), most=st.integers(1, 20), room=st.integers(0, 400))
def test_no_more_is_taken_than_was_asked_for_and_there_is_room_for(
    text: str, measure: tuple[int, int], most: int, room: int
) -> None:
    size, overlap = measure
    everything = list(char_chunks(text, size=size, overlap=overlap))
    if sum(end - start for start, end in everything[:most]) > room:
        with pytest.raises(Problem) as caught:
            take(iter(everything), max_chunks=most, max_chars=room)
        assert caught.value.status == 422
    else:
        taken, is_all = take(iter(everything), max_chunks=most, max_chars=room)
        assert taken == everything[:most]
        assert is_all == (len(everything) <= most)


@pytest.mark.parametrize("text", [" " * 300_000, "x" * 300_000, " " * 299_999 + "x"])
def test_an_overlap_close_to_the_size_cannot_make_gigabytes(text: str) -> None:
    places = char_chunks(text, size=200_000, overlap=199_999)
    if text.startswith("x"):
        with pytest.raises(Problem):
            take(places, max_chunks=65_536, max_chars=16_000_000)
    else:
        assert len(take(places, max_chunks=65_536, max_chars=16_000_000)[0]) <= 1
