"""Texts to token ids by the model's own tokenizer.json, without transformers."""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer, Precompiled
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace, WhitespaceSplit
from tokenizers.pre_tokenizers import Sequence as Steps

from sidecar.engines import Tokens
from sidecar.engines.packed import unigram
from sidecar.engines.packed.architecture import UnpackableError, read_table

TOKENIZER = "tokenizer.json"
_PROBE = "a"
_UNKNOWN = "<unk>"
PIECE_CHARS = 2_048
_CODE_POINTS = 0x110000
_LETTERS = frozenset(("Lu", "Ll", "Lt", "Lo", "Nd"))
# In the table of characters.
_UNSEEN, _PARTING, _LETTER, _MARK, _NOTHING, _OTHER = range(6)


class Rule:
    """Where a long text is cut without changing a token: a tokenizer takes 600 bytes a character.

    Every rule stands on its tokenizer's own steps, and is there for those alone. This one is for
    tokenizers of which nothing is known: their texts are read whole.
    """

    def parts(self, text: str, at: int) -> bool:  # noqa: ARG002 (nothing does)
        """Return whether what stands before and from `at`, within `text`, is read as if alone."""
        return False

    def kept(self, piece: str) -> list[int] | None:  # noqa: ARG002 (nothing is left out)
        """Return the places of characters that alone have the tokens of `piece`, None for all.

        Nothing parts in `piece`. Its tokens begin and end where these do, but that marks which are
        put in order have each other's places.
        """
        return None


class Spaced(Rule):
    """Of words that are read one by one: a space between two letters parts.

    Letters and digits are neither the end of an added token nor, as marks are, read together with
    what stands before.
    """

    def __init__(self, added: Added) -> None:
        """Leave the tokens in `added` whole."""
        self._added = added

    def parts(self, text: str, at: int) -> bool:
        """Return whether a word ends before `at`, and the next begins after one space."""
        return (
            text[at] == " "
            and _is_letter(text[at - 1])
            and _is_letter(text[at + 1 : at + 2])
            and not self._added.crosses(text, at)
        )


class Bert(Rule):
    """Of BERT's words: white space, punctuation and Han characters part, and long words are one.

    Its normaliser looks at characters one by one, so each is tried once, between two letters.
    """

    def __init__(self, tokenizer: Tokenizer, added: Added) -> None:
        """Ask the steps of `tokenizer`, whose model is WordPiece, and leave `added` whole."""
        self._normalizer = tokenizer.normalizer
        self._splitter = tokenizer.pre_tokenizer
        self._longest: int = tokenizer.model.max_input_chars_per_word
        self._added = added
        self._kinds = bytearray(_CODE_POINTS)

    def parts(self, text: str, at: int) -> bool:
        """Return whether a character that is read by itself ends or begins at `at`."""
        is_parted = self._kind(text[at]) == _PARTING or self._kind(text[at - 1]) == _PARTING
        return is_parted and not self._added.crosses(text, at)

    def kept(self, piece: str) -> list[int] | None:
        """Leave out what the normaliser does, and the inside of a word that is too long anyway."""
        kinds = {character: self._kind(character) for character in set(piece)}
        if not {_PARTING, _OTHER}.isdisjoint(kinds.values()):
            return None
        found = (at for at, character in enumerate(piece) if kinds[character] != _NOTHING)
        kept = list(itertools.islice(found, self._longest + 1))
        if len(kept) > self._longest:
            last = range(len(piece) - 1, kept[-1], -1)
            kept[-1] = next((at for at in last if kinds[piece[at]] != _NOTHING), kept[-1])
            return kept
        # Marks are put in order, but for those that others stand between.
        return kept if all(kinds[piece[at]] == _LETTER for at in kept) else None

    def _kind(self, character: str) -> int:
        number = ord(character)
        if self._kinds[number] == _UNSEEN:
            self._kinds[number] = self._tried(character)
        return self._kinds[number]

    def _tried(self, character: str) -> int:
        text = self._normalizer.normalize_str(f"a{character}a")
        words = [word for word, _ in self._splitter.pre_tokenize_str(text)]
        if words == ["aa"]:
            return _NOTHING
        if len(words) == 1:
            first = unicodedata.normalize("NFD", character)[0]
            return _MARK if unicodedata.combining(first) else _LETTER
        return _PARTING if (words[0], words[-1]) == ("a", "a") else _OTHER


class Added:
    """The tokens that are found in a text before anything else is done with it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take those of `tokenizer`."""
        self._tokens = list(tokenizer.get_added_tokens_decoder().values())
        self._contents = [token.content for token in self._tokens]

    @property
    def are_plain(self) -> bool:
        """Whether each is found as it is spelled, next to any character."""
        return not any(
            token.normalized or token.single_word or token.lstrip or token.rstrip
            for token in self._tokens
        )

    @property
    def are_signs(self) -> bool:
        """Whether each begins and ends with ASCII punctuation, and is found as it is spelled."""
        return not any(token.normalized for token in self._tokens) and all(
            one.isascii() and one.isprintable() and not one.isalnum() and one != " "
            for content in self._contents
            for one in (content[:1], content[-1:])
        )

    def crosses(self, text: str, at: int) -> bool:
        """Return whether one stands in `text` across `at`."""
        return any(
            text.find(one, max(0, at - len(one) + 1), at + len(one) - 1) >= 0
            for one in self._contents
        )


def rule_of(tokenizer: Tokenizer) -> Rule:
    """Return the rule for `tokenizer`."""
    added = Added(tokenizer)
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer
    if not added.are_signs:
        return Rule()
    if isinstance(normalizer, BertNormalizer) and isinstance(splitter, BertPreTokenizer):
        is_known = isinstance(tokenizer.model, WordPiece) and added.are_plain
        return Bert(tokenizer, added) if is_known else Rule()
    is_known = normalizer is None or isinstance(normalizer, Precompiled)
    return Spaced(added) if is_known and _reads_words(splitter) else Rule()


def places(text: str, rule: Rule, *, max_chars: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the pieces of `text`; one in which nothing parts may be longer."""
    start = 0
    while len(text) - start > max_chars:
        last = start + max_chars
        end = next((at for at in range(last, start, -1) if rule.parts(text, at)), 0)
        if not end:
            rest = range(last + 1, len(text))
            end = next((at for at in rest if rule.parts(text, at)), len(text))
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)


def _reads_words(splitter: object) -> bool:
    """Return whether `splitter` is XLM-RoBERTa's or RoBERTa's."""
    if not isinstance(splitter, Steps | ByteLevel):
        return False
    state = json.loads(splitter.__getstate__())
    if isinstance(splitter, ByteLevel):
        return bool(state["use_regex"])
    steps = state["pretokenizers"]
    return [step["type"] for step in steps] == ["WhitespaceSplit", "Metaspace"] and all(
        step.get("prepend_scheme") != "first" for step in steps
    )


def _is_letter(character: str) -> bool:
    """Return whether `character` is a letter or a digit, and nothing joins it to its neighbours."""
    if character.isascii():
        return character.isalnum()
    first = unicodedata.normalize("NFKD", character)[0]
    # Letters that some scripts put before others are all beyond the first plane, but for one.
    is_alone = character < "\U00010000" and character != "\u0d4e"
    return is_alone and {unicodedata.category(one) for one in (first, character)} <= _LETTERS


class Reader(Protocol):
    """Reads texts, or pieces of them, without special tokens around."""

    def read(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each of `texts`."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end, in characters, of every token of `text`."""

    def spell(self, number: int) -> str | None:
        """Return how the token of an id is spelled, None if there is none."""


class LibraryReader:
    """Has tokenizers read."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def read(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each of `texts`."""
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end of every token of `text`."""
        # To encode one text holds the interpreter, a batch does not.
        (made,) = self._tokenizer.encode_batch([text], add_special_tokens=False)
        found: list[tuple[int, int]] = made.offsets
        return found

    def spell(self, number: int) -> str | None:
        """Return how the token of an id is spelled."""
        found: str | None = self._tokenizer.id_to_token(number)
        return found


class PackedTokenizer:
    """Tokenises as transformers does one sequence: special tokens around it, cut on one side."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_tokens: int,
        piece_chars: int = PIECE_CHARS,
        reader: Reader | None = None,
    ) -> None:
        """Take over `tokenizer`, which reads about `piece_chars` characters at a time.

        With a `reader` that does so, and the model of `tokenizer` only stands in for another.

        Raises UnpackableError if it adds tokens anywhere but around or none, or cuts on the left.
        """
        if (tokenizer.truncation or {}).get("direction") == "left":
            raise UnpackableError("its tokenizer cuts texts on the left")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._reader = reader or LibraryReader(tokenizer)
        self._decoder = tokenizer.decoder
        added = tokenizer.get_added_tokens_decoder().values()
        self._special = frozenset(token.content for token in added if token.special)
        self.spell = self._reader.spell
        self._rule = rule_of(tokenizer)
        self._piece_chars = piece_chars
        self._max_tokens = max_tokens
        # Unigram models have a number for it and no name of their own.
        named = getattr(tokenizer.model, "unk_token", None) or _UNKNOWN
        found: int | None = tokenizer.token_to_id(named)
        self._unknown = -1 if found is None else found
        inner = tokenizer.encode(_PROBE, add_special_tokens=False).ids
        outer = tokenizer.encode(_PROBE).ids
        start = next(
            (i for i in range(len(outer)) if outer[i : i + len(inner)] == inner and inner), None
        )
        if start is None:
            raise UnpackableError("its tokenizer adds more than tokens before and after a text")
        self._before = tuple(outer[:start])
        self._after = tuple(outer[start + len(inner) :])
        if not self.special_tokens:
            raise UnpackableError("its tokenizer gives an empty text no tokens")
        if self.special_tokens > max_tokens:
            raise UnpackableError(f"its {max_tokens} tokens have no room for the special ones")

    @property
    def around(self) -> list[tuple[int, ...]]:
        """The ids that are put before every text, and those behind it."""
        return [self._before, self._after]

    @property
    def special_tokens(self) -> int:
        """How many tokens are added to every text."""
        return len(self._before) + len(self._after)

    def tokenize(self, texts: Sequence[str], *, keeps_end: bool = False) -> list[Tokens]:
        """Return the tokens of every text; an empty text has its special tokens."""
        cut = self._end if keeps_end else self._tokens
        made: list[Tokens] = []
        for batch in _batches(texts, max_chars=self._piece_chars):
            if len(batch) > 1 or len(batch[0]) <= self._piece_chars:
                made += [cut([one]) for one in self._reader.read(batch)]
            else:
                made.append(cut(self._read(batch[0])))
        return made

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end, in characters, of every token of `text`, special ones left out."""
        return [
            place
            for first, piece, kept in self._pieces(text)
            for place in self._spans(first, piece, kept)
        ]

    def read(self, text: str) -> Iterator[list[tuple[int, int, int]]]:
        """Yield id, start and end, in characters, of every token of `text`, piece by piece."""
        for first, piece, kept in self._pieces(text):
            (ids,) = self._reader.read([piece])
            found = self._spans(first, piece, kept)
            yield [(one, start, end) for one, (start, end) in zip(ids, found, strict=True)]

    def decode(self, ids: Sequence[int], *, skips_special: bool) -> str:
        """Return the text of tokens, as tokenizers puts it together."""
        left_out = self._special if skips_special else frozenset[str]()
        names = [name for name in map(self.spell, ids) if name is not None and name not in left_out]
        if self._decoder is None:
            return " ".join(names)
        made: str = self._decoder.decode(names)
        return made

    def unknown(self, text: str) -> tuple[int, int]:
        """Return how many tokens of `text` the model has none for, and of how many."""
        unknown = total = 0
        for ids in self._read(text):
            unknown, total = unknown + ids.count(self._unknown), total + len(ids)
        return unknown, total

    def _tokens(self, pieces: Iterable[list[int]]) -> Tokens:
        """Return the tokens of a text whose pieces are read one after the other."""
        room = self._max_tokens - self.special_tokens
        kept: list[int] = []
        length = self.special_tokens
        for ids in pieces:
            if len(kept) < room:
                kept += ids[: room - len(kept)]
            length += len(ids)
        return Tokens(ids=(*self._before, *kept, *self._after), length=length)

    def _end(self, pieces: Iterable[list[int]]) -> Tokens:
        """Return the last tokens of a text, where `_tokens` returns the first; the special stay."""
        kept = deque[int](maxlen=self._max_tokens - self.special_tokens)
        length = self.special_tokens
        for ids in pieces:
            kept.extend(ids)
            length += len(ids)
        return Tokens(ids=(*self._before, *kept, *self._after), length=length)

    def _read(self, text: str) -> Iterator[list[int]]:
        """Yield the ids of `text`, piece by piece."""
        for _, piece, _ in self._pieces(text):
            yield from self._reader.read([piece])

    def _pieces(self, text: str) -> Iterator[tuple[int, str, list[int] | None]]:
        """Yield what is read of `text`: where each piece starts, itself, and what of it is kept."""
        for start, end in places(text, self._rule, max_chars=self._piece_chars):
            piece = text[start:end]
            kept = self._rule.kept(piece) if len(piece) > self._piece_chars else None
            yield start, piece if kept is None else "".join(piece[at] for at in kept), kept

    def _spans(self, first: int, piece: str, kept: list[int] | None) -> list[tuple[int, int]]:
        """Return start and end, in the text, of the tokens of one of `_pieces`."""
        found = self._reader.spans(piece)
        if kept is None:
            return [(first + start, first + end) for start, end in found]
        return [(first + kept[start], first + kept[end - 1] + 1) for start, end in found]


def _batches(texts: Iterable[str], *, max_chars: int) -> Iterator[list[str]]:
    """Yield texts that are read at once: of `max_chars` together at most, or one alone."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > max_chars:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def load(folder: Path, *, max_tokens: int) -> PackedTokenizer:
    """Return the tokenizer of the snapshot in `folder`. Raises UnpackableError."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise UnpackableError(f"it has no {TOKENIZER}")
    reader = unigram.open_reader(folder, path)
    if reader is not None:
        model, tokenizer = "Unigram", reader.steps
    else:
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises Exception itself
            raise UnpackableError(f"{TOKENIZER} cannot be read") from error
        model = type(tokenizer.model).__name__
    made = PackedTokenizer(tokenizer, max_tokens=max_tokens, reader=reader)
    config = folder / "tokenizer_config.json"
    found = read_table(config) if config.is_file() else {}
    refuse_rebuilt(tokenizer, made.around, found, model=model)
    return made


Config = Mapping[str, Any]
# What a tokenizer is taken for if tokenizer_config.json does not say, by its model.
_DEFAULTS = {
    "WordPiece": "BertTokenizer",
    "Unigram": "XLMRobertaTokenizer",
    "BPE": "RobertaTokenizer",
}
# The classes that read the file as it is.
_FAITHFUL = ("PreTrainedTokenizer", "TokenizersBackend")
# The tokens put around a text: which settings name them, and their names if none does.
_AROUND = {
    "BertTokenizer": {"cls_token": "[CLS]", "sep_token": "[SEP]"},
    "XLMRobertaTokenizer": {"bos_token": "<s>", "eos_token": "</s>"},
    "RobertaTokenizer": {"cls_token": "<s>", "sep_token": "</s>"},
    "MPNetTokenizer": {"cls_token": "<s>", "sep_token": "</s>"},
}


def refuse_rebuilt(
    tokenizer: Tokenizer, around: list[tuple[int, ...]], config: Config, *, model: str
) -> None:
    """Raise UnpackableError if transformers would read texts in another way than `tokenizer`.

    Its classes (transformers 5) take the vocabulary out of the file and make the rest themselves,
    from tokenizer_config.json and defaults of their own. The reference engine's tokens are theirs.

    `around` are the ids before and after a text, `config` is tokenizer_config.json, `model` the
    kind of its model.
    """
    name = str(config.get("tokenizer_class") or _DEFAULTS.get(model)).removesuffix("Fast")
    if name in _FAITHFUL:
        return
    if name not in _AROUND:
        raise UnpackableError(f"its tokenizer is a {name}")
    try:
        normalizer, pre_tokenizer = _steps(name, tokenizer, config)
    except TypeError as error:
        raise UnpackableError("tokenizer_config.json has a setting of the wrong kind") from error
    named = [_named(config.get(key, default)) for key, default in _AROUND[name].items()]
    for what, ours, theirs in (
        ("normaliser", _state(tokenizer.normalizer), _state(normalizer)),
        ("pre-tokenizer", _state(tokenizer.pre_tokenizer), _state(pre_tokenizer)),
        ("special tokens", around, [(tokenizer.token_to_id(token),) for token in named]),
    ):
        if ours != theirs:
            raise UnpackableError(f"tokenizer.json and the class {name} differ in {what}")


def _steps(name: str, tokenizer: Tokenizer, config: Config) -> tuple[Any, Any]:
    """Return the normaliser and pre-tokenizer that the class `name` makes."""
    if name in {"BertTokenizer", "MPNetTokenizer"}:
        normalizer = BertNormalizer(
            clean_text=True,
            handle_chinese_chars=config.get("tokenize_chinese_chars", True),
            strip_accents=config.get("strip_accents"),
            lowercase=config.get("do_lower_case", True),
        )
        return normalizer, BertPreTokenizer()
    if name == "RobertaTokenizer":
        return None, ByteLevel(add_prefix_space=config.get("add_prefix_space", False))
    # Of a sequence of normalisers XLM-RoBERTa's keeps the map of characters alone.
    is_kept = isinstance(tokenizer.normalizer, Precompiled)
    scheme = "always" if config.get("add_prefix_space", True) else "never"
    metaspace = Metaspace(replacement="\u2581", prepend_scheme=scheme)
    return tokenizer.normalizer if is_kept else None, Steps([WhitespaceSplit(), metaspace])


def _named(token: object) -> str:
    """Return the spelling of a token, which a setting may hold with its properties around it."""
    return str(token.get("content") if isinstance(token, dict) else token)


def _state(step: Any) -> bytes | None:  # noqa: ANN401 (the library's own)
    """Return all that a step of a tokenizer is made of, None if there is none."""
    if step is None:
        return None
    state: bytes = step.__getstate__()
    return state
