"""One run, from its options to what was measured."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

from bench import corpus, machine, replay, roofline, systems
from bench.measure import Subject, effort_for, measure
from bench.report import Run
from bench.shapes import SHAPES
from bench.synthetic import write_model
from bundler.assembly.derivation import derive
from bundler.errors import UsageError
from bundler.launch import command
from bundler.profiles import profile_named
from sidecar.manifest import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.measure import Effort, Say
    from bundler.recipe import Recipe

CHECKOUT_MODEL = "minilm-l6"
LOCKED_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a run. Without a `bundle` the sources in `service` serve a synthetic model.

    `models` is the folder that synthetic models are kept in.
    """

    service: Path
    bundle: Path | None
    synthetic: str | None
    snapshot: Path | None
    threads: int
    models: Path
    is_quick: bool = False
    effort: Effort | None = None
    peers: Sequence[Path] = ()
    peer_models: Mapping[str, Path] = field(default_factory=dict)


def run(options: Options, recipe: Recipe, say: Say) -> Run:
    """Measure each model beside every system.

    Raises UsageError for what cannot be measured, SmokeError if our service does not answer.
    """
    described = machine.describe()
    models = []
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        for subject in _subjects(options, recipe, Path(home)):
            sizes = roofline.read_sizes(subject.snapshot)
            effort = options.effort or effort_for(sizes, is_quick=options.is_quick)
            texts = corpus.gather(effort.texts)
            say(f"{subject.name}: {len(texts.texts)} texts, {subject.threads} threads")
            models.append(measure(subject, texts, effort, say))
    return Run(machine=described, models=models)


def replay_in(options: Options, recipe: Recipe, folder: Path, clients: int) -> replay.Replayed:
    """Start our service with the first model and send it the requests saved in `folder`.

    Raises UsageError if there are none, SmokeError if the service does not start.
    """
    requests = replay.read(folder)
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        subject = next(_subjects(options, recipe, Path(home)))
    system = next(each for each in subject.systems if each.name == systems.OURS)
    running = systems.start(system, ["first"], threads=options.threads)
    try:
        return replay.replay(running.connect, requests, clients=clients)
    finally:
        running.service.stop()


def _subjects(options: Options, recipe: Recipe, home: Path) -> Iterator[Subject]:
    """Yield the bundle's own model, if there is one, then the synthetic model that is asked for."""
    if options.bundle is None:
        program = [sys.executable, "-I", "-B", str(options.service)]
        snapshot, served = _synthetic(options, options.synthetic or CHECKOUT_MODEL, "whole")
        model_options = ["--model", str(served)]
        yield _subject(
            options, snapshot, [*program, *model_options], "the checkout, whole weights", home
        )
        return
    program, manifest = command(options.bundle, ()), read(options.bundle)
    by = f"the bundle {options.bundle.name}"
    model = next((m for m in manifest.models if m.name == manifest.default_model), None)
    if model is not None:
        folder = options.bundle / model.snapshot
        weights = "whole" if (folder / LOCKED_WEIGHTS).is_file() else "half"
        snapshot, served_by = options.snapshot or folder, f"{by}, {weights} weights"
        yield replace(_subject(options, snapshot, program, served_by, home), name=model.name)
    elif options.synthetic is None:
        raise UsageError(
            f"the bundle {options.bundle.name} has no model",
            next_step="--synthetic measures it with a synthetic one",
        )
    if options.synthetic is not None:
        weights = profile_named(manifest.profile, recipe.sections["diet"]).weights
        snapshot, served = _synthetic(options, options.synthetic, weights)
        # A bundle serves what its manifest names, and other models where downloads are allowed.
        model_options = ["--allow-download", "--model", str(served)]
        yield _subject(
            options, snapshot, [*program, *model_options], f"{by}, {weights} weights", home
        )


def _subject(
    options: Options, snapshot: Path, program: Sequence[str], served_by: str, home: Path
) -> Subject:
    threads, models = options.threads, options.peer_models
    others, absent = systems.others(snapshot, threads, options.peers, models, home)
    return Subject(
        name=snapshot.name,
        served_by=served_by,
        snapshot=snapshot,
        threads=threads,
        systems=[*systems.ours(program, threads), *others],
        absent=absent,
    )


def _synthetic(options: Options, name: str, weights: str) -> tuple[Path, Path]:
    """Return a synthetic model, made if it is not there yet, and the copy that our service loads.

    The copy is as a bundle holds it, with its graph and these weights. It is made anew every time,
    by hard links where files stay as they are: what is derived depends on our own code.
    """
    snapshot = write_model(options.models / name, SHAPES[name], list(topics.values()))
    copy = snapshot.with_name(f"{name}-{weights}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(snapshot, copy, copy_function=_link)
    derive(name, copy, None, weights=weights)
    return snapshot, copy


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
