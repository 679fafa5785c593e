"""The texts that a model was trained to read before others, as its own library applies them.

They stand in config_sentence_transformers.json. None is added unasked, the default that the file
may name included: what a vector is of is what the request says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sidecar.errors import ModelError
from sidecar.problems import Problem

CONFIG = "config_sentence_transformers.json"
InputType = Literal["query", "document"]
# The names that stand for each type, the first that there is: those of sentence-transformers'
# encode_query and encode_document.
NAMES: Mapping[InputType, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """A model's prompts by name. Unless they `are_pooled`, vectors leave out their tokens."""

    texts: Mapping[str, str] = field(default_factory=dict)
    are_pooled: bool = True

    def choose(self, *, name: str | None, text: str | None, input_type: InputType | None) -> str:
        """Return the text of the prompt that a request asks for, empty if for none.

        Raises Problem 422 for more than one wish, and for what the model does not have.
        """
        if name is None and text is None and input_type is None:
            return ""
        if sum(wish is not None for wish in (name, text, input_type)) > 1:
            what = "prompt_name, prompt and input_type: at most one of them is taken"
            raise Problem("bad-value", what, "each of them says the prompt", "leave out the others")
        found = text
        if name is not None:
            found = self.texts.get(name)
        if input_type is not None:
            found = next((self.texts[one] for one in NAMES[input_type] if one in self.texts), None)
        if found is None:
            raise self._unknown("input_type" if name is None else "prompt_name")
        if found and not self.are_pooled:
            what = "no prompt can be used with this model"
            why = "its vectors leave out the tokens of prompts, which is not supported"
            raise Problem("bad-value", what, why, "send texts without a prompt")
        return found

    def _unknown(self, field: str) -> Problem:
        if not self.texts:
            what, step = f"{field}: the model has no prompts", f"leave out {field}, or send prompt"
            return Problem("bad-value", what, f"its {CONFIG} names none", step)
        named = ", ".join(self.texts)
        what = f"{field}: the model has no such prompt"
        return Problem("bad-value", what, f"its prompts are {named}", "send one of these names")


NONE = Prompts()


def read(folder: Path) -> Prompts:
    """Return the prompts of the snapshot in `folder`. Raises ModelError."""
    stated = _table(folder / CONFIG).get("prompts") or {}
    texts = stated.values() if isinstance(stated, dict) else [stated]
    if not all(isinstance(text, str) for text in texts):
        what = f"{CONFIG} of the model cannot be read"
        raise ModelError(what, why="its prompts are not texts by name")
    steps = _json(folder / "modules.json")
    poolings = [
        _table(folder / str(step.get("path", "")) / "config.json")
        for step in (steps if isinstance(steps, list) else [])
        if isinstance(step, dict) and str(step.get("type", "")).endswith(".Pooling")
    ]
    are_pooled = all(pooling.get("include_prompt", True) for pooling in poolings)
    return Prompts(texts=stated, are_pooled=are_pooled)


def _table(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, an empty one if there is no file. Raises ModelError."""
    found = _json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise ModelError(f"{path.name} of the model cannot be read", why="it is not a table")
    return found


def _json(path: Path) -> Any:  # noqa: ANN401 (any JSON)
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        what = f"{path.name} of the model cannot be read"
        raise ModelError(what, why=type(error).__name__) from error
