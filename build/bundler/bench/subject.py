"""What is measured: a model, and the program that serves it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.bench.served import from_bundle
from bundler.bench.shapes import TWINS
from bundler.bench.twin import write_twin
from bundler.errors import UsageError
from bundler.models.derivation import derive
from sidecar.manifest import read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bundler.bench.contenders import Say
    from bundler.bench.served import Program

LOCKED_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model under measurement. `snapshot` is what everybody else loads: its weights are whole."""

    name: str
    snapshot: Path
    program: Program
    weights: str


def own(bundle: Path, *, snapshot: Path | None, threads: int) -> Subject:
    """Return the default model of `bundle`, served by it. Raises UsageError if it has none.

    `snapshot` is the same model with its locked weights, where the bundle holds them in half.
    """
    program = from_bundle(bundle, threads=threads)
    manifest = read(bundle)
    model = next((m for m in manifest.models if m.name == manifest.default_model), None)
    if model is None:
        raise UsageError(
            f"the bundle {bundle.name} has no model", next_step="--twin measures it with a twin"
        )
    folder = bundle / model.snapshot
    is_whole = (folder / LOCKED_WEIGHTS).is_file()
    return Subject(
        name=model.name,
        snapshot=snapshot or folder,
        program=program,
        weights="whole" if is_whole else "half",
    )


def twin(
    name: str,
    folder: Path,
    *,
    texts: Sequence[str],
    program: Program,
    weights: str,
    say: Say,
) -> Subject:
    """Return the twin called `name`, made below `folder` if it is not there, served by `program`.

    With `weights` half our service gets them so, and the others whole.
    """
    made = folder / name
    if not (made / "twin.json").is_file():
        say(f"making the twin {name}: weights by lot, the shape of the real one")
    write_twin(made, TWINS[name], texts)
    given = served_copy(made, weights=weights)
    return Subject(
        name=name,
        snapshot=made,
        program=program.with_model(given),
        weights=weights,
    )


def served_copy(snapshot: Path, *, weights: str) -> Path:
    """Return a copy of `snapshot` as a bundle holds it: with its graph, its weights as asked for.

    Made anew every time, by hard links where there is nothing to change: what is derived depends on
    our own code.
    """
    copy = snapshot.with_name(f"{snapshot.name}-{weights}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(snapshot, copy, copy_function=_link)
    derive(snapshot.name, copy, None, weights=weights)
    return copy


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
