"""A Unigram vocabulary as files that the service maps: a trie of its pieces, and their scores.

They are the same bytes on every machine and for every target.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import Sequence as Steps

from sidecar.engines.packed.architecture import PIECES
from sidecar.engines.packed.tokens import TOKENIZER, Spaced, rule_of
from sidecar.engines.packed.unigram import (
    BASE,
    CHARACTERS,
    FORMAT,
    NONE,
    PARENT,
    PIECE,
    RECORD,
    SCORES,
    TRIE,
    WHITE_SPACE,
    Pieces,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# What tokenizers takes off the lowest score for a character that no piece has.
PENALTY = 10.0
UNKNOWN = "<unk>"
# After each so many places that were tried for a node the next ones are farther apart. A vocabulary
# of 15,000 characters took 88 seconds without, 7 with a quarter more cells.
PATIENCE = 256


def write_unigram(snapshot: Path) -> bool:
    """Write the files for the tokenizer in `snapshot`; return whether it is one that has them.

    Others are left to tokenizers: those with another model, with bytes for unknown characters, or
    with steps around the model that are not XLM-RoBERTa's. What cannot be read at all the engine
    refuses.
    """
    try:
        tokenizer = Tokenizer.from_file(str(snapshot / TOKENIZER))
    except Exception:  # noqa: BLE001 (tokenizers raises Exception itself)
        return False
    # Not the file itself: here each score has the value that tokenizers has read.
    state = json.loads(tokenizer.to_str())
    pieces = _pieces(state["model"]) if _has_known_steps(tokenizer, state) else None
    if pieces is None:
        return False
    place = snapshot / PIECES
    place.mkdir(exist_ok=True)
    for name, values in (
        (TRIE, pieces.trie),
        (SCORES, pieces.scores),
        (CHARACTERS, pieces.characters),
    ):
        np.save(place / name, values)
    record = {
        "format": FORMAT,
        "tokenizer": hashlib.sha256((snapshot / TOKENIZER).read_bytes()).hexdigest(),
        "longest": pieces.longest,
        "unknown": pieces.unknown,
        "unknown_score": pieces.unknown_score,
        "steps": _steps(tokenizer, state["added_tokens"], pieces.unknown),
    }
    (place / RECORD).write_text(json.dumps(record), encoding="utf-8", newline="\n")
    return True


def _has_known_steps(tokenizer: Tokenizer, state: Mapping[str, Any]) -> bool:
    """Return whether words are parted as the service parts them, and added tokens are cut out.

    That is done with the text as it is, before anything else, and for special ones alone. White
    space beside them, which some take with them, must give no tokens.
    """
    normalizer = tokenizer.normalizer
    spaces = WHITE_SPACE if normalizer is None else normalizer.normalize_str(WHITE_SPACE)
    return (
        isinstance(rule_of(tokenizer), Spaced)
        and isinstance(tokenizer.pre_tokenizer, Steps)
        and not spaces.strip(WHITE_SPACE)
        and all(
            token["special"] and not token["normalized"] and not token["single_word"]
            for token in state["added_tokens"]
        )
    )


def _pieces(model: Mapping[str, Any]) -> Pieces | None:
    """Return the vocabulary of `model`, None if it is not one that the service searches.

    A run of unknown characters is never a piece, as it is for tokenizers at times, if no score is
    above zero and the unknown piece is in no other.
    """
    if model["type"] != "Unigram" or model["byte_fallback"] or model["unk_id"] is None:
        return None
    names = [piece for piece, _ in model["vocab"]]
    scores = np.array([score for _, score in model["vocab"]], dtype=np.float64)
    unknown: int = model["unk_id"]
    if (
        names[unknown] != UNKNOWN
        or sum(UNKNOWN in name for name in names) > 1
        or len(set(names)) < len(names)
        or "" in names
        or not (scores <= 0).all()
        or not np.isfinite(scores).all()
    ):
        return None
    codes = _codes(names)
    characters = np.zeros(ord(max(codes)) + 1, dtype=np.min_scalar_type(len(codes)))
    characters[[ord(one) for one in codes]] = list(codes.values())
    return Pieces(
        trie=double_array([[codes[one] for one in name] for name in names]),
        scores=scores,
        characters=characters,
        longest=max(map(len, names)),
        unknown=unknown,
        unknown_score=float(scores.min()) - PENALTY,
    )


def _codes(names: Sequence[str]) -> dict[str, int]:
    """Return a code for every character in `names`; frequent ones have low codes."""
    counts = collections.Counter(itertools.chain.from_iterable(names))
    ranked = sorted(counts, key=lambda one: (-counts[one], one))
    return {one: code for code, one in enumerate(ranked, 1)}


def double_array(pieces: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """Return the trie of `pieces`, whose parts are above 0, as rows BASE, PARENT and PIECE.

    Nodes are laid out by the number of their children, each where its children find room first;
    long searches skip places. Any code may be looked up at any node without leaving the array.
    """
    ends, parents, children = _tree(pieces)
    bases, cells = [0] * len(ends), [0] * len(ends)
    used, most = bytearray(b"\1"), max(map(max, pieces))
    # Where the last node with as many children found room: before that there is little.
    since = collections.defaultdict[int, int](int)
    for node in sorted(range(len(ends)), key=lambda node: -len(children[node])):
        wanted = sorted(children[node])
        if not wanted:
            break
        first, rest = wanted[0], wanted[1:]
        place, tries = max(since[len(wanted)], first), 0
        while True:
            place = used.find(0, place)
            if place < 0 or place + most >= len(used):
                used.extend(bytes(most + len(used) // 8 + 1))
                place = max(since[len(wanted)], first)
                continue
            base = place - first
            if not any(used[base + code] for code in rest):
                break
            tries += 1
            place += 1 + tries // PATIENCE
        since[len(wanted)], bases[node] = place, base
        for code in wanted:
            used[base + code] = 1
            cells[children[node][code]] = base + code
    trie = np.full((3, max(bases) + most + 1), NONE, dtype=np.int32)
    trie[BASE] = 0
    trie[BASE, cells], trie[PIECE, cells] = bases, ends
    trie[PARENT, cells[1:]] = [cells[parent] for parent in parents[1:]]
    return trie


def _tree(pieces: Sequence[Sequence[int]]) -> tuple[list[int], list[int], list[dict[int, int]]]:
    """Return by node the piece that ends there or NONE, its parent, and its children by code."""
    ends, parents, children = [NONE], [NONE], [dict[int, int]()]
    for number, piece in enumerate(pieces):
        node = 0
        for code in piece:
            below = children[node].get(code)
            if below is None:
                below = children[node][code] = len(ends)
                ends.append(NONE)
                parents.append(node)
                children.append({})
            node = below
        ends[node] = number
    return ends, parents, children


def _steps(tokenizer: Tokenizer, added: Sequence[Mapping[str, Any]], unknown: int) -> object:
    """Return `tokenizer` without its vocabulary: each character is an unknown token.

    Added tokens keep their numbers.
    """
    vocabulary = {token["content"]: token["id"] for token in added}
    vocabulary[UNKNOWN] = unknown
    tokenizer.model = models.BPE(vocabulary, [], unk_token=UNKNOWN)
    return json.loads(tokenizer.to_str())
