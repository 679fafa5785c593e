"""The engine that defines the right answer: sentence-transformers' own modules.

Importing this module imports torch and sentence-transformers, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from sidecar.engines import Tokens, Vectors, Vocabulary
from sidecar.engines.devices import choose_device, empty_cache
from sidecar.errors import ModelError
from sidecar.settings import Precision


class ReferenceEngine:
    """Runs the modules of a SentenceTransformer on token ids, in float32.

    Pooling and normalising follow the request; everything else is the model's own pipeline.
    """

    name = "reference"
    precision: Precision = "float32"
    space: str = "exact"
    pads = True
    best_tokens = 4096

    def __init__(self, model: SentenceTransformer, *, device: str) -> None:
        """Take over `model`, already on `device`. Raises ModelError for a foreign pipeline."""
        modules = list(model)
        poolings = [module for module in modules if isinstance(module, Pooling)]
        if not modules or not isinstance(modules[0], Transformer) or len(poolings) != 1:
            what = "the model is not a text encoder with one pooling step"
            raise ModelError(what, why="its modules.json lists something else")
        dim = model.get_embedding_dimension()
        tokenizer: Any = model.tokenizer
        if dim is None or not tokenizer.is_fast:
            what = "the model has no fixed dimension or no fast tokenizer"
            raise ModelError(what, why="the service needs both", next_step="choose another --model")
        self.device = device
        self.dim = dim
        self.max_tokens = _max_tokens(model, tokenizer)
        self._modules = modules
        self._stock = poolings[0]
        mode = self._stock.pooling_mode
        self.pooling = mode if isinstance(mode, str) else "+".join(mode)
        self._poolings: dict[str, Pooling] = {self.pooling: self._stock}
        self._tokenizer = tokenizer
        self._side: str = tokenizer.truncation_side
        self.special_tokens = len(tokenizer("")["input_ids"])
        self.vocabulary: Vocabulary | None = ReferenceVocabulary(tokenizer)

    def tokenize(self, texts: Sequence[str], *, keeps_end: bool = False) -> list[Tokens]:
        """Return the tokens of every text; an empty text has its special tokens."""
        if not texts:
            return []
        rows = _read(self._tokenizer, list(texts))["input_ids"]
        long = [index for index, ids in enumerate(rows) if len(ids) > self.max_tokens]
        cut = {}
        if long:  # only the tokenizer knows how it cuts, so these are read a second time
            whole = [texts[index] for index in long]
            found = self._read_cut(whole, side="left" if keeps_end else self._side)
            cut = dict(zip(long, found, strict=True))
        return [
            Tokens(ids=tuple(cut.get(index, ids)), length=len(ids))
            for index, ids in enumerate(rows)
        ]

    def _read_cut(self, texts: list[str], *, side: str) -> list[list[int]]:
        # A setting of the tokenizer, which padding has nothing to do with.
        self._tokenizer.truncation_side = side
        try:
            found: list[list[int]] = _read(
                self._tokenizer, texts, truncation=True, max_length=self.max_tokens
            )["input_ids"]
        finally:
            self._tokenizer.truncation_side = self._side
        return found

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end, in characters, of every token of `text`, special ones left out."""
        found = _read(self._tokenizer, text, add_special_tokens=False, return_offsets_mapping=True)
        return [(int(start), int(end)) for start, end in found["offset_mapping"]]

    def unknown(self, text: str) -> tuple[int, int]:
        """Return how many tokens of `text` the model has none for, and of how many."""
        ids: list[int] = _read(self._tokenizer, text, add_special_tokens=False)["input_ids"]
        return ids.count(self._tokenizer.unk_token_id), len(ids)

    def encode(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        """Return one row of shape (dim,) per sequence of ids, in order; `batch` is not empty."""
        # Padding leaves the state of the fast tokenizer alone, which another thread may be using.
        padded = self._tokenizer.pad(
            {"input_ids": [list(ids) for ids in batch]}, padding=True, return_tensors="pt"
        )
        features: dict[str, Any] = {name: tensor.to(self.device) for name, tensor in padded.items()}
        features["modality"] = "text"
        with torch.inference_mode():
            for module in self._modules:
                if isinstance(module, Normalize):
                    continue  # the request decides, below
                step = self._pooling(pooling) if module is self._stock else module
                features = step(features)
            vectors = features["sentence_embedding"]
            if normalize:
                vectors = torch.nn.functional.normalize(vectors, p=2, dim=1)
            rows: Vectors = vectors.to("cpu", torch.float32).numpy()
        return np.ascontiguousarray(rows)

    def trim(self) -> None:
        """Give back what the device's allocator holds for batches that may not come again."""
        empty_cache(self.device)

    def _pooling(self, mode: str) -> Pooling:
        if mode not in self._poolings:
            self._poolings[mode] = Pooling(self._stock.embedding_dimension, pooling_mode=mode)
        return self._poolings[mode]


class ReferenceVocabulary:
    """The tokens of a fast tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 (untyped)
        """Read with `tokenizer`, and never cut."""
        self._tokenizer = tokenizer

    @property
    def around(self) -> Sequence[Sequence[int]]:
        """The ids that are put before every text, and those behind it."""
        inner, outer = (
            _read(self._tokenizer, "a", add_special_tokens=one)["input_ids"]
            for one in (False, True)
        )
        for first in range(len(outer)):
            if outer[first : first + len(inner)] == inner:
                return outer[:first], outer[first + len(inner) :]
        return (), ()

    def read(self, text: str) -> Iterator[list[tuple[int, int, int]]]:
        """Yield id, start and end, in characters, of every token of `text`, all at once."""
        found = _read(self._tokenizer, text, add_special_tokens=False, return_offsets_mapping=True)
        pairs = zip(found["input_ids"], found["offset_mapping"], strict=True)
        yield [(one, int(start), int(end)) for one, (start, end) in pairs]

    def spell(self, number: int) -> str | None:
        """Return how the token of an id is spelled."""
        found: str | None = self._tokenizer.backend_tokenizer.id_to_token(number)
        return found

    def decode(self, ids: Sequence[int], *, skips_special: bool) -> str:
        """Return the text of tokens, as tokenizers puts it together."""
        decode = self._tokenizer.backend_tokenizer.decode
        made: str = decode(list(ids), skip_special_tokens=skips_special)
        return made


def _read(tokenizer: Any, text: str | list[str], **wanted: Any) -> Any:  # noqa: ANN401 (untyped)
    settings = {"truncation": False, **wanted}
    return tokenizer(
        text, return_attention_mask=False, return_token_type_ids=False, verbose=False, **settings
    )


def _max_tokens(model: SentenceTransformer, tokenizer: Any) -> int:  # noqa: ANN401
    config = model.config
    positions = getattr(config, "max_position_embeddings", None)
    known = [n for n in (model.max_seq_length, tokenizer.model_max_length, positions) if n]
    return int(min(known))


def load(snapshot: Path, *, device: str, threads: int | None = None) -> ReferenceEngine:
    """Return the engine for a local snapshot folder; never touches the network.

    `threads` compute on the CPU, None leaves that to torch. Raises UsageError for a device that is
    not there, ModelError for everything that keeps the model from loading.
    """
    talk: Any = transformers.utils.logging  # untyped
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    chosen = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        model = SentenceTransformer(
            str(snapshot),
            device=chosen,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
        model.eval()
        return ReferenceEngine(model, device=chosen)
    except ModelError:
        raise
    except Exception as error:
        what = "the model cannot be loaded"
        why = f"{type(error).__name__}: {error}"
        step = "choose another --model, or build the bundle again"
        raise ModelError(what, why=why, next_step=step) from error
