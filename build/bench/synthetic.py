"""Synthetic models: the architecture and size of a real model with random weights.

A synthetic model is an ordinary sentence-transformers snapshot. Its vectors mean nothing, but its
layers, its embedding table and its tokenizer cost what the real ones do, and different texts get
different vectors. The same shape and seed give the same bytes: weights are integers from PCG64,
whose stream numpy promises to keep, times one factor.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import io
import itertools
import json
import math
import os
import re
import shutil
import string
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import sentencepiece
from safetensors.numpy import save_file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from bundler.atomic import rename

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench import Shape

    Matrix = NDArray[np.float32]
    from collections.abc import Iterable

FORMAT = 1
RECORD = "synthetic.json"
MODULE = "sentence_transformers.models"
# The linear layers of attention and the norm behind it, as each family names them.
ATTENTION = {
    "bert": ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm"),
    "mpnet": ("attn.q", "attn.k", "attn.v", "attn.o", "LayerNorm"),
}
BUCKETS = 32
STEPS = 1 << 15  # a weight is one of twice as many values


def write_model(folder: Path, shape: Shape, texts: Sequence[str], *, seed: int = 0) -> Path:
    """Make `folder` a snapshot of `shape` and return it; keep one that is there already.

    `texts` decide the tokenizer's pieces alone. The files are written into a temporary folder
    beside and renamed together, so a killed run leaves no partial snapshot. Raises OSError.
    """
    record = _json({"format": FORMAT, "seed": seed, **dataclasses.asdict(shape)})
    if (folder / RECORD).is_file() and (folder / RECORD).read_bytes() == record:
        return folder
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        (fresh / "1_Pooling").mkdir(parents=True)
        for name, data in _files(shape, tokenizer(shape, texts)).items():
            (fresh / name).write_bytes(data)
        tensors = dict(weights(shape, seed=seed))
        save_file(tensors, fresh / "model.safetensors", metadata={"format": "pt"})
        (fresh / RECORD).write_bytes(record)
        shutil.rmtree(folder, ignore_errors=True)
        rename(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def weights(shape: Shape, *, seed: int = 0) -> Iterator[tuple[str, Matrix]]:
    """Yield every tensor of the model by name, in float32."""

    def random(name: str, deviation: float, *sizes: int) -> tuple[str, Matrix]:
        return name, _uniform((seed, zlib.crc32(name.encode())), deviation, sizes)

    def linear(name: str, out: int, width: int) -> Iterator[tuple[str, Matrix]]:
        # Small enough that texts are still told apart behind twelve layers.
        yield random(f"{name}.weight", 0.6 / math.sqrt(width), out, width)
        yield random(f"{name}.bias", 0.02, out)

    def norm(name: str) -> Iterator[tuple[str, Matrix]]:
        yield f"{name}.weight", np.ones(shape.width, np.float32)
        yield f"{name}.bias", np.zeros(shape.width, np.float32)

    width, parts = shape.width, ATTENTION.get(shape.family, ATTENTION["bert"])
    yield random("embeddings.word_embeddings.weight", 0.5, shape.vocabulary, width)
    yield random("embeddings.position_embeddings.weight", 0.1, shape.positions, width)
    if shape.family == "mpnet":
        yield random("encoder.relative_attention_bias.weight", 0.5, BUCKETS, shape.heads)
    else:
        types = 1 if shape.family == "xlm-roberta" else 2
        yield random("embeddings.token_type_embeddings.weight", 0.1, types, width)
    yield from norm("embeddings.LayerNorm")
    for layer in range(shape.layers):
        base = f"encoder.layer.{layer}"
        for name in parts[:-1]:
            yield from linear(f"{base}.attention.{name}", width, width)
        yield from norm(f"{base}.attention.{parts[-1]}")
        yield from linear(f"{base}.intermediate.dense", shape.inner, width)
        yield from linear(f"{base}.output.dense", width, shape.inner)
        yield from norm(f"{base}.output.LayerNorm")
    yield from linear("pooler.dense", width, width)


def _uniform(seed: tuple[int, int], deviation: float, sizes: tuple[int, ...]) -> Matrix:
    """Return values spread evenly about zero with that standard deviation."""
    count = math.prod(sizes)
    raw = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(-(-count // 4))
    steps = raw.astype("<u8").view("<i2")[:count].reshape(sizes)
    made: Matrix = steps.astype(np.float32)
    made *= np.float32(deviation * math.sqrt(3) / STEPS)
    return made


def _files(shape: Shape, tokenizer: Tokenizer) -> dict[str, bytes]:
    """Return every file but the weights, in the form that the real models have."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [("2_Normalize", "Normalize")] if shape.is_normalized else []
    documents = {
        "config.json": _config(shape),
        "sentence_bert_config.json": {"max_seq_length": shape.max_tokens, "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": {}},
        "1_Pooling/config.json": {
            "word_embedding_dimension": shape.width,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
        },
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": f"{MODULE}.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ],
        "tokenizer_config.json": _tokenizer_config(shape),
    }
    files = {name: _json(document) for name, document in documents.items()}
    files["tokenizer.json"] = tokenizer.to_str(pretty=False).encode()
    if shape.family != "xlm-roberta":
        ranked = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        files["vocab.txt"] = "".join(f"{piece}\n" for piece, _ in ranked).encode()
    return files


def _config(shape: Shape) -> dict[str, Any]:
    """Return the configuration, less the values that are transformers' defaults."""
    names = {"bert": "BertModel", "xlm-roberta": "XLMRobertaModel", "mpnet": "MPNetModel"}
    is_bert = shape.family == "bert"
    variant: dict[str, Any] = {
        "position_embedding_type": "absolute",
        "type_vocab_size": 2 if is_bert else 1,
    }
    if shape.family == "mpnet":
        variant = {"relative_attention_num_buckets": BUCKETS}
    return {
        "architectures": [names[shape.family]],
        "model_type": shape.family,
        "hidden_act": "gelu",
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "layer_norm_eps": 1e-12 if is_bert else 1e-05,
        "max_position_embeddings": shape.positions,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "pad_token_id": 0 if is_bert else 1,
        "vocab_size": shape.vocabulary,
        **variant,
    }


def _tokenizer_config(shape: Shape) -> dict[str, Any]:
    if shape.family == "bert":
        special = {f"{name[1:-1].lower()}_token": name for name in WORDPIECE_SPECIAL}
        limit = {"model_max_length": shape.positions}
        return {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **limit, **special}
    names = ("bos", "pad", "eos", "unk", "cls", "sep", "mask")
    pieces = (*UNIGRAM_SPECIAL, "<s>", "</s>", MASK)
    special = {f"{name}_token": piece for name, piece in zip(names, pieces, strict=True)}
    limit = {"model_max_length": shape.positions - 2}
    if shape.family == "mpnet":
        special["unk_token"] = MPNET_SPECIAL[4]
        return {"tokenizer_class": "MPNetTokenizer", "do_lower_case": True, **limit, **special}
    return {"tokenizer_class": "XLMRobertaTokenizer", **limit, **special}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()


UNIGRAM_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
# Padding, unknown, before and behind a text, and others.
WORDPIECE_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MPNET_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "[UNK]", MASK)
CHARACTERS = (*string.ascii_letters, *string.digits, *string.punctuation)
META = "\u2581"
# First letter and number of letters: Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai,
# Hiragana, and the first of the common Han characters.
SCRIPTS = (
    *((0x61, 26), (0x3B1, 25), (0x430, 32), (0x5D0, 27), (0x627, 36)),
    *((0x905, 53), (0xE01, 46), (0x3041, 83), (0x4E00, 600)),
)
LONGEST_PART = 6
WORD_SHARE = 12  # one piece in so many is a whole word
LOWEST = -14.0


def tokenizer(shape: Shape, texts: Iterable[str]) -> Tokenizer:
    """Return a tokenizer of the kind that models of the family have."""
    if shape.family == "xlm-roberta":
        return unigram(texts, size=shape.vocabulary)
    special = MPNET_SPECIAL if shape.family == "mpnet" else WORDPIECE_SPECIAL
    return wordpiece(texts, size=shape.vocabulary, special=special)


def unigram(texts: Iterable[str], *, size: int) -> Tokenizer:
    """Return a tokenizer of XLM-R's kind with exactly `size` pieces; same texts, same pieces."""
    vocabulary = [(piece, 0.0) for piece in UNIGRAM_SPECIAL]
    vocabulary += itertools.islice(_scored(texts, size), size - len(vocabulary) - 1)
    tokenizer = Tokenizer(models.Unigram([*vocabulary, (MASK, 0.0)], unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(charsmap())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(META, "always")]
    )
    tokenizer.decoder = decoders.Metaspace(META, "always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in UNIGRAM_SPECIAL])
    tokenizer.add_special_tokens([AddedToken(MASK, lstrip=True, special=True)])
    return tokenizer


def wordpiece(
    texts: Iterable[str], *, size: int, special: Sequence[str] = WORDPIECE_SPECIAL
) -> Tokenizer:
    """Return a tokenizer of BERT's kind with exactly `size` pieces; same texts, same pieces."""
    lower = (text.lower() for text in texts)
    made = itertools.chain(special, _marked(piece for piece, _ in _scored(lower, size)))
    vocabulary: dict[str, int] = {}
    while len(vocabulary) < size:
        vocabulary.setdefault(next(made), len(vocabulary))
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    first, last = ("[CLS]", "[SEP]") if "[CLS]" in special else ("<s>", "</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(name, vocabulary[name]) for name in (first, last)],
    )
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, lstrip=name == MASK) for name in special]
    )
    return tokenizer


def _marked(pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces in WordPiece's spelling: bare at the start of a word, marked inside of it."""
    for piece in pieces:
        if piece.startswith(META):
            yield piece.removeprefix(META) or "[unused0]"
        else:
            yield f"##{piece}"
            if len(piece) == 1:
                yield piece


def _scored(texts: Iterable[str], size: int) -> Iterator[tuple[str, float]]:
    """Yield distinct pieces with their log probabilities, the indispensable ones first."""
    words = collections.Counter[str]()
    for text in texts:
        words.update(re.findall(r"\w+|[^\w\s]+", text))
    parts = collections.Counter[str]()
    for word, count in words.items():
        for start, length in itertools.product(range(len(word)), range(1, LONGEST_PART + 1)):
            if start + length <= len(word):
                part = word[start : start + length]
                parts[META + part if start == 0 else part] += count
    total = parts.total() + words.total() + 1
    seen: set[str] = set()
    frequent = _ranked(words)[: max(1, size // WORD_SHARE)]
    for piece, count in itertools.chain(
        ((character, parts[character] or 1) for character in (META, *CHARACTERS)),
        ((META + word, count) for word, count in frequent),
        _ranked(parts),
    ):
        if piece not in seen:
            seen.add(piece)
            yield piece, round(max(LOWEST, math.log(count / total)), 4)
    for number, piece in enumerate(_syllables()):
        if piece not in seen:
            seen.add(piece)
            yield piece, round(LOWEST - number / 250_000, 4)


def _ranked(counts: collections.Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _syllables() -> Iterator[str]:
    """Yield words of generated syllables without end, one script after the other."""
    for number in itertools.count():
        rest, script = divmod(number, len(SCRIPTS))
        first, letters = SCRIPTS[script]
        # Multiplying by an odd constant scatters neighbours; the length grows with the number.
        scattered = rest * 2_654_435_761 % (1 << 32)
        word = ""
        for _ in range(2 + rest % 5):
            word += chr(first + scattered % letters)
            scattered //= letters
        yield META + word if rest % 2 else word


@functools.cache
def charsmap() -> bytes:
    """Return the normalisation of XLM-R's tokenizer, which SentencePiece writes into models."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a"]),
        model_writer=written,
        model_type="char",
        vocab_size=5,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    found: bytes = model.normalizer_spec.precompiled_charsmap
    return found
