from __future__ import annotations

import hashlib
import io
import random
from typing import TYPE_CHECKING

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from bench import synthetic
from bundler.assembly.unigram_files import double_array, write_unigram
from sidecar.engines.packed.architecture import PIECES
from sidecar.engines.packed.tokens import TOKENIZER
from sidecar.engines.packed.unigram import BASE, CHARACTERS, NONE, PARENT, PIECE, SCORES, TRIE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

TEXTS = ("The cat sat on the mat.", "Rivers run to the sea.")


def xlmr() -> Tokenizer:
    return synthetic.unigram(TEXTS, size=600)


def found(trie: NDArray[np.int32], piece: Sequence[int]) -> int:
    """Return the number of `piece`, NONE if it is not in the trie."""
    node = 0
    for code in piece:
        cell = int(trie[BASE, node]) + code
        if trie[PARENT, cell] != node:
            return NONE
        node = cell
    return int(trie[PIECE, node])


def test_every_piece_is_found_and_nothing_else() -> None:
    drawn = random.Random(1)
    pieces = list({tuple(drawn.choices(range(1, 40), k=drawn.randint(1, 6))) for _ in range(3_000)})
    trie = double_array(pieces)
    assert [found(trie, piece) for piece in pieces] == list(range(len(pieces)))
    known = dict(zip(pieces, range(len(pieces)), strict=True))
    for _ in range(3_000):
        other = tuple(drawn.choices(range(40), k=drawn.randint(1, 7)))
        assert found(trie, other) == known.get(other, NONE)


def test_a_search_that_skips_places_loses_no_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.assembly.unigram_files.PATIENCE", 1)
    drawn = random.Random(3)
    pieces = list({tuple(drawn.choices(range(1, 99), k=drawn.randint(1, 3))) for _ in range(4_000)})
    trie = double_array(pieces)
    assert [found(trie, piece) for piece in pieces] == list(range(len(pieces)))


def test_any_character_may_follow_any_node() -> None:
    drawn = random.Random(2)
    pieces = list({tuple(drawn.choices(range(1, 900), k=3)) for _ in range(500)})
    trie = double_array(pieces)
    assert trie[BASE].min() >= 0
    assert trie[BASE].max() + 899 < trie.shape[1]
    # There is little room between the nodes.
    assert (trie[PARENT] != NONE).sum() > 0.5 * trie.shape[1]


def test_the_same_vocabulary_gives_the_same_bytes_everywhere(tmp_path: Path) -> None:
    xlmr().save(str(tmp_path / TOKENIZER))
    assert write_unigram(tmp_path)
    digests = {
        name: hashlib.sha256((tmp_path / PIECES / name).read_bytes()).hexdigest()[:16]
        for name in (TRIE, SCORES, CHARACTERS)
    }
    assert digests == {
        TRIE: "5ffb0602cf4e6ef1",
        SCORES: "4746f6e18ffe2292",
        CHARACTERS: "402423e0e54601ef",
    }
    files = {path.name: path.read_bytes() for path in (tmp_path / PIECES).iterdir()}
    assert write_unigram(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / PIECES).iterdir()} == files


def with_model(
    scores: Sequence[tuple[str, float]], unknown: int | None = 0, **options: bool
) -> Callable[[Tokenizer], object]:
    """Return a change to a model with these pieces."""

    def change(tokenizer: Tokenizer) -> None:
        tokenizer.model = models.Unigram(list(scores), unk_id=unknown, **options)

    return change


def with_steps(*steps: pre_tokenizers.PreTokenizer) -> Callable[[Tokenizer], object]:
    return lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizers.Sequence([*steps]))


SPLIT = pre_tokenizers.WhitespaceSplit()
PLAIN = [("<unk>", 0.0), ("a", -1.0)]
LEFT_TO_TOKENIZERS: dict[str, Callable[[Tokenizer], object]] = {
    "bytes": with_model(
        [*PLAIN, *((f"<0x{n:02X}>", -2.0) for n in range(256))], byte_fallback=True
    ),
    "no unknown piece": with_model(PLAIN, None),
    "another unknown piece": with_model([("[UNK]", 0.0), ("a", -1.0)]),
    "a piece twice": with_model([*PLAIN, ("a", -2.0)]),
    "a piece around the unknown one": with_model([*PLAIN, ("a<unk>", -2.0)]),
    "a score above nought": with_model([*PLAIN, ("b", 0.5)]),
    "an empty piece": with_model([*PLAIN, ("", -1.0)]),
    "another model": lambda t: setattr(t, "model", models.WordPiece({"[UNK]": 0})),
    "a plain token": lambda t: t.add_tokens([AddedToken("<plain>", normalized=False)]),
    "a normalised token": lambda t: t.add_special_tokens([AddedToken("<n>", normalized=True)]),
    "a token between words": lambda t: t.add_special_tokens([AddedToken("<w>", single_word=True)]),
    "a token of letters": lambda t: t.add_special_tokens([AddedToken("word")]),
    "another normaliser": lambda t: setattr(t, "normalizer", normalizers.NFKC()),
    "words by bytes": lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.ByteLevel()),
    "no pre-tokenizer": lambda t: setattr(t, "pre_tokenizer", None),
    "a mark at the first word alone": with_steps(SPLIT, pre_tokenizers.Metaspace("_", "first")),
    "punctuation": with_steps(SPLIT, pre_tokenizers.Punctuation()),
}


@pytest.mark.parametrize("feature", LEFT_TO_TOKENIZERS)
def test_what_our_model_lacks_is_left_to_tokenizers(tmp_path: Path, feature: str) -> None:
    tokenizer = xlmr()
    LEFT_TO_TOKENIZERS[feature](tokenizer)
    tokenizer.save(str(tmp_path / TOKENIZER))
    assert not write_unigram(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [TOKENIZER]


def test_white_space_that_becomes_a_letter_is_left_to_tokenizers(tmp_path: Path) -> None:
    rules = tmp_path / "rules.tsv"
    for becomes, is_ours in (("20", True), ("61", False)):
        written = io.BytesIO()
        rules.write_text(f"3000\t{becomes}\n", encoding="ascii")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a"]),
            model_writer=written,
            model_type="char",
            vocab_size=4,
            normalization_rule_tsv=str(rules),
            minloglevel=2,
        )
        model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
        tokenizer = xlmr()
        charsmap = model.normalizer_spec.precompiled_charsmap
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
        tokenizer.save(str(tmp_path / TOKENIZER))
        assert write_unigram(tmp_path) == is_ours


@pytest.mark.parametrize("data", [None, b"", b"{}", b"\xff"])
def test_what_cannot_be_read_is_left_to_the_engine(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / TOKENIZER).write_bytes(data)
    assert not write_unigram(tmp_path)
