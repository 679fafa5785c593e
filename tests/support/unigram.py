"""Hold our Unigram against tokenizers' own, on texts of every kind that it could stumble over.

`ci/count unigram [TEXTS] [FOLDER]` takes the tokenizer.json in FOLDER, or a vocabulary as large as
XLM-RoBERTa's, and prints how many texts have other tokens or places.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from bench import XLMR_BASE, synthetic
from bundler.assembly.unigram_files import write_unigram
from sidecar.engines.packed.tokens import TOKENIZER, PackedTokenizer, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WHOLE = 1 << 30  # no text is cut
SPECIAL = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", " <mask>", "\u3000<mask>", "<ma", "sk>")
CONTROLS = (*map(chr, range(0x20)), *"\x7f\x85\u00ad\u200b\u200e\u2060\ufeff")
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
EMOJI = ("\U0001f600", "\U0001f44d\U0001f3fd", FAMILY, "\u2764\ufe0f")
SIGNS = "=-_.*#~+/\\|!?<>()[]{}'\"\u2581\u2014\u2026\u3002\uff01a1 \u65e5"
# Ligatures, wide and joined forms, what becomes several characters, and marks that join.
FOLDED = (
    "\ufb01\uff37\uff1cs\uff1e\u2122\ufdfa\u2460\u00bd\u0130\u00df\u01c5"
    "\uac00\u1100\u1161\u0e33\u0301\u3099\u20dd"
)
RANGES = (
    *((0x21, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE80)),
    *((0x1100, 0x1200), (0x2000, 0x2070), (0x2190, 0x2600), (0x3040, 0x3100), (0x4E00, 0x5100)),
    *((0xAC00, 0xAE00), (0xF900, 0xFB10), (0xFE00, 0xFFFE), (0x1D400, 0x1D800), (0x1F300, 0x1F700)),
    (0xE0000, 0xE0080),
)


def paragraphs() -> list[str]:
    """Return the paragraphs of Python's own manual."""
    found = (part.strip() for text in topics.values() for part in text.split("\n\n"))
    return sorted({part for part in found if len(part) > 20})


def texts(count: int, pieces: Sequence[str], *, seed: int = 8421) -> Iterator[str]:
    """Yield `count` texts, the same ones for the same `seed` and `pieces`, which are in many."""
    draw, plain = random.Random(seed), paragraphs()

    def of(parts: Sequence[str], most: int, least: int = 1) -> str:
        return "".join(draw.choices(parts, k=draw.randint(least, most)))

    kinds: list[Callable[[], str]] = [
        lambda: draw.choice(plain),
        lambda: " ".join(draw.choices(draw.choice(plain).split(), k=draw.randint(1, 9))),
        lambda: of([chr(draw.randrange(*draw.choice(RANGES))) for _ in range(30)], 30),
        lambda: draw.choice(SIGNS) * draw.randint(1, 60),
        lambda: of(SIGNS, 40),
        lambda: of(EMOJI, 8),
        lambda: of([chr(draw.randrange(0x4E00, 0x9FFF)) for _ in range(40)], 40),
        lambda: of((*SPECIAL, "a", " ", "the"), 6),
        lambda: of((*CONTROLS, "a", "cat", " "), 12),
        lambda: of(FOLDED, 20),
        lambda: of(pieces, 12),
        lambda: of("abcdefghij", 600, 100),
        lambda: "\u2581".join(draw.choices(plain, k=2))[: draw.randint(1, 300)],
    ]
    for _ in range(count):
        found = [draw.choice(kinds)() for _ in range(draw.choice((1, 1, 1, 2, 3)))]
        yield draw.choice(("", " ", "\n", "\u00a0")).join(found)


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> tuple[PackedTokenizer, PackedTokenizer]:
    """Write `tokenizer` into `folder`, and return it read by our model and by tokenizers'."""
    tokenizer.save(str(folder / TOKENIZER))
    theirs = PackedTokenizer(tokenizer, max_tokens=WHOLE)
    if not write_unigram(folder):
        raise ValueError("it is not a tokenizer that our model reads")
    return load(folder, max_tokens=WHOLE), theirs


def differing(
    ours: PackedTokenizer, theirs: PackedTokenizer, found: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the texts that have other tokens, and those with other places."""
    tokens = zip(found, ours.tokenize(found), theirs.tokenize(found), strict=True)
    others = [text for text, one, other in tokens if one != other]
    return others, [text for text in found if ours.spans(text) != theirs.spans(text)]


def main(arguments: Sequence[str]) -> int:
    """Compare, report; 0 if no text differs."""
    parser = argparse.ArgumentParser(
        prog="ci/count unigram", description="Hold our Unigram against tokenizers' own."
    )
    parser.add_argument("texts", type=int, nargs="?", default=20_000)
    parser.add_argument("folder", type=Path, nargs="?")
    options = parser.parse_args(arguments)
    if options.folder is None:
        tokenizer = synthetic.unigram(topics.values(), size=XLMR_BASE.vocabulary)
    else:
        tokenizer = Tokenizer.from_file(str(options.folder / TOKENIZER))
    pieces = sorted(tokenizer.get_vocab())
    with tempfile.TemporaryDirectory(prefix="unigram-") as home:
        ours, theirs = write_tokenizer(Path(home), tokenizer)
        found = list(texts(options.texts, pieces))
        others, elsewhere = differing(ours, theirs, found)
    total = sum(one.length for one in ours.tokenize(found))
    sys.stdout.write(
        f"{len(found)} texts, {total} tokens: {len(others)} texts have other tokens, "
        f"{len(elsewhere)} other places\n"
    )
    for text in (*others[:5], *elsewhere[:5]):
        sys.stdout.write(f"  {text[:100]!a}\n")
    return 1 if others or elsewhere else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
