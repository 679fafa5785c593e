"""Texts to token ids by the model's own tokenizer.json, without transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from sidecar.engines import Tokens
from sidecar.engines.packed.architecture import UnpackableError, read_table
from sidecar.engines.packed.rebuilds import refuse_rebuilt

TOKENIZER = "tokenizer.json"
_PROBE = "a"
_UNKNOWN = "<unk>"


class PackedTokenizer:
    """Tokenises as transformers does one sequence: special tokens around it, cut on the right."""

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int) -> None:
        """Take over `tokenizer`.

        Raises UnpackableError if it adds tokens anywhere but around or none, or cuts on the left.
        """
        if (tokenizer.truncation or {}).get("direction") == "left":
            raise UnpackableError("its tokenizer cuts texts on the left")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
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

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of every text; an empty text has its special tokens."""
        room = self._max_tokens - self.special_tokens
        made = []
        for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
            ids = encoding.ids
            kept = (*self._before, *ids[:room], *self._after)
            made.append(Tokens(ids=kept, length=len(ids) + self.special_tokens))
        return made

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end, in characters, of every token of `text`, special ones left out."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return [(int(start), int(end)) for start, end in offsets]

    def unknown(self, text: str) -> tuple[int, int]:
        """Return how many tokens of `text` the model has none for, and of how many."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids.count(self._unknown), len(ids)


def load(folder: Path, *, max_tokens: int) -> PackedTokenizer:
    """Return the tokenizer of the snapshot in `folder`. Raises UnpackableError."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise UnpackableError(f"it has no {TOKENIZER}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise UnpackableError(f"{TOKENIZER} cannot be read") from error
    made = PackedTokenizer(tokenizer, max_tokens=max_tokens)
    config = folder / "tokenizer_config.json"
    refuse_rebuilt(tokenizer, made.around, read_table(config) if config.is_file() else {})
    return made
