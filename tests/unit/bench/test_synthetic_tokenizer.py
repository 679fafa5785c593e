from __future__ import annotations

from tokenizers import normalizers

from bench.synthetic import charsmap, unigram, wordpiece

TEXTS = (
    "The cat sat on the mat, and the dog did not.",
    "A function is called with its arguments in brackets.",
)


def test_unigram_has_the_special_pieces_of_xlm_r() -> None:
    tokenizer = unigram(TEXTS, size=2_000)
    named = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    assert tokenizer.get_vocab_size() == 2_000
    assert [tokenizer.token_to_id(name) for name in named] == [0, 1, 2, 3, 1_999]
    assert tokenizer.encode("").ids == [0, 2]
    found = tokenizer.encode(TEXTS[0])
    assert 3 not in found.ids
    assert "▁cat" in found.tokens


def test_wordpiece_marks_pieces_inside_of_words() -> None:
    tokenizer = wordpiece(TEXTS, size=2_000)
    assert tokenizer.get_vocab_size() == 2_000
    found = tokenizer.encode("The catamaran").tokens
    assert found[:3] == ["[CLS]", "the", "cat"]
    assert found[-1] == "[SEP]"
    assert all(piece.startswith("##") for piece in found[3:-1])


def test_the_normalizer_is_that_of_xlm_r() -> None:
    normaliser = normalizers.Precompiled(charsmap())
    found = normaliser.normalize_str("ﬁnal ①\u00a0Ｗide\tİe\u0301 日本\u200b語")
    assert found == "final 1 Wide İé 日本 語"
