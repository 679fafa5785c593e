"""Command lines, as the service and the builder read them: argparse, less what surprises.

An option is spelled in full, for what abbreviates one today may abbreviate two tomorrow. What is
mistyped is told by its name and the nearest known one, and never with its value, which may be a
token.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Any

# Names of options are told apart at a glance; of choices, cpu is no slip for gpu.
SIMILAR, SIMILAR_CHOICE = 0.6, 0.7
FEW = 3
LONGEST_NUMBER = 20
REST = "--"  # what follows is another program's


class Parser(argparse.ArgumentParser):
    """A parser, and the class of its commands' parsers: each tells its own mistakes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (as argparse takes them)
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401
        """Parse, and refuse what is not known; so a command refuses it before its caller does."""
        words = sys.argv[1:] if args is None else list(args)
        if self._subparsers is None:
            # argparse makes an empty list of `--port=--`.
            for word in itertools.takewhile(lambda word: word != REST, words):
                if word.startswith("--") and word.endswith("=--"):
                    self.error(f"argument {name_of(word)}: expected one argument")
        found, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return found, []

    def _unknown(self, words: list[str]) -> str:
        names = [name_of(word) for word in words if word.startswith("--")]
        if not names:
            return f"unrecognized arguments: {len(words)} that no option takes"
        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = list(dict.fromkeys(name for word in names for name in nearest(word, known)))
        return f"unrecognized arguments: {' '.join(names)}{did_you_mean(near)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401
        """Add to argparse's own error what may have been meant."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            known = map(str, action.choices or ())
            near = nearest(str(value), known, similar=SIMILAR_CHOICE)
            raise argparse.ArgumentError(action, f"{error.message}{did_you_mean(near)}") from None


def name_of(word: str) -> str:
    """Return the name of an option without a value that is written to it."""
    return word.partition("=")[0]


def nearest(word: str, known: Iterable[str], *, similar: float = SIMILAR) -> list[str]:
    """Return the few of `known` that `word` begins, or else the one that is spelled like it."""
    by_spelling = {name.lower().lstrip("-"): name for name in known}
    low = word.lower().lstrip("-").replace("_", "-")
    if low in by_spelling:
        return [by_spelling[low]]
    begun = [name for spelling, name in by_spelling.items() if low and spelling.startswith(low)]
    found = difflib.get_close_matches(low, by_spelling, n=1, cutoff=similar)
    return begun[:FEW] or [by_spelling[spelling] for spelling in found]


def did_you_mean(near: Iterable[str]) -> str:
    """Return the end of a sentence that asks for what may have been meant; empty for nothing."""
    asked = " or ".join(near)
    return f"; did you mean {asked}?" if asked else ""


def number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number of an option. It raises ArgumentTypeError."""

    def read(text: str) -> int:
        # Python reads no number of thousands of digits.
        is_number = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
        if not is_number or not least <= int(text) <= most:
            message = f"{text[:LONGEST_NUMBER]!r} is not a whole number from {least} to {most}"
            raise argparse.ArgumentTypeError(message)
        return int(text)

    return read
