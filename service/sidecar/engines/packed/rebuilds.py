"""Whether transformers reads texts as a tokenizer.json says: its classes rebuild most of it.

They (transformers 5) take the vocabulary out of the file and make the rest themselves, from
tokenizer_config.json and defaults of their own. The reference engine's tokens are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer, Precompiled
from tokenizers.pre_tokenizers import (
    BertPreTokenizer,
    ByteLevel,
    Metaspace,
    Sequence,
    WhitespaceSplit,
)

from sidecar.engines.packed.architecture import UnpackableError

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
}


def refuse_rebuilt(tokenizer: Tokenizer, around: list[tuple[int, ...]], config: Config) -> None:
    """Raise UnpackableError if transformers would read texts in another way than `tokenizer`.

    `around` are the ids before and after a text, `config` is tokenizer_config.json.
    """
    model = type(tokenizer.model).__name__
    name = str(config.get("tokenizer_class") or _DEFAULTS.get(model)).removesuffix("Fast")
    if name in _FAITHFUL:
        return
    if name not in _STEPS:
        raise UnpackableError(f"its tokenizer is a {name}")
    try:
        normalizer, pre_tokenizer = _STEPS[name](tokenizer, config)
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


def _bert(_tokenizer: Tokenizer, config: Config) -> tuple[Any, Any]:
    normalizer = BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    return normalizer, BertPreTokenizer()


def _xlm_roberta(tokenizer: Tokenizer, config: Config) -> tuple[Any, Any]:
    # Of a sequence of normalisers they keep the map of characters alone.
    is_kept = isinstance(tokenizer.normalizer, Precompiled)
    scheme = "always" if config.get("add_prefix_space", True) else "never"
    metaspace = Metaspace(replacement="\u2581", prepend_scheme=scheme)
    return tokenizer.normalizer if is_kept else None, Sequence([WhitespaceSplit(), metaspace])


def _roberta(_tokenizer: Tokenizer, config: Config) -> tuple[Any, Any]:
    return None, ByteLevel(add_prefix_space=config.get("add_prefix_space", False))


_STEPS: Mapping[str, Callable[[Tokenizer, Config], tuple[Any, Any]]] = {
    "BertTokenizer": _bert,
    "XLMRobertaTokenizer": _xlm_roberta,
    "RobertaTokenizer": _roberta,
}


def _named(token: object) -> str:
    """Return the spelling of a token, which a setting may hold with its properties around it."""
    return str(token.get("content") if isinstance(token, dict) else token)


def _state(step: Any) -> bytes | None:  # noqa: ANN401 (the library's own)
    """Return all that a step of a tokenizer is made of, None if there is none."""
    if step is None:
        return None
    state: bytes = step.__getstate__()
    return state
