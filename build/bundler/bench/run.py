"""One run: from what was asked for to the tables' data, and the files it is saved in."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

from bundler.bench import load, peers, replay, served, weighing
from bundler.bench.chart import draw
from bundler.bench.corpus import gather
from bundler.bench.flops import read_work
from bundler.bench.machine import describe
from bundler.bench.measure import Others, measure
from bundler.bench.page import page
from bundler.bench.ratios import figures
from bundler.bench.sheet import sheet
from bundler.bench.subject import own, served_copy, twin
from bundler.files.replacement import replace_files
from bundler.profiles import profile_named
from sidecar.manifest import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bundler.bench.contenders import Say
    from bundler.bench.effort import Effort
    from bundler.bench.ratios import Figure
    from bundler.bench.replay import Replayed
    from bundler.bench.subject import Subject
    from bundler.recipe import Recipe

FORMAT = 1
LARGE_TWIN = "xlmr-base"
CHECKOUT_TWIN = "minilm-l6"
# Beyond so many operations for a token, fewer texts make rounds that are long enough.
HEAVY = 100e6
HEAVY_LENGTH = 64
Data = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run is asked for. Without a `bundle` twins are served from the sources in `service`.

    `lean` and `none` are bundles that are only weighed.
    """

    service: Path
    bundle: Path | None
    twin: str | None
    snapshot: Path | None
    threads: int
    effort: Effort
    twins: Path
    documentation: Path
    lean: Path
    none: Path
    peers: Sequence[Path] = ()
    peer_models: Mapping[str, Path] = field(default_factory=dict)
    export: Path | None = None


def run(asked: Asked, recipe: Recipe, say: Say) -> Data:
    """Measure all that was asked for and return it as plain data.

    Raises UsageError for what cannot be measured, SmokeError if our service does not answer.
    """
    machine = describe()
    subjects: list[Data] = []
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for subject in _subjects(asked, recipe, say):
            effort = effort_for(subject, asked.effort)
            corpus = gather(effort.texts, topics=topics.values(), folder=asked.documentation)
            if asked.export is not None and not subjects:
                replay.export(asked.export, load.cut(corpus.texts, effort.request_size))
            say(f"{subject.name}: {len(corpus.texts)} texts, {subject.program.threads} threads")
            others = _others(asked, subject, Path(scratch))
            subjects.append(measure(subject, corpus, effort, others, say))
            found += figures(subjects[-1])
    found += _weights(asked, say)
    return {
        "format": FORMAT,
        "machine": machine,
        "threads": asked.threads,
        "subjects": subjects,
        "figures": [figure.document() for figure in found],
    }


def replay_in(asked: Asked, recipe: Recipe, folder: Path, say: Say) -> Replayed:
    """Start the first subject and send it the requests saved in `folder`.

    Raises UsageError if there are none, SmokeError if the service does not start.
    """
    bodies = replay.read(folder)
    subject = next(_subjects(asked, recipe, say))
    running = served.start(subject.program, "ready")
    try:
        return replay.replay(running.target, bodies)
    finally:
        running.service.stop()


def save(run: Data, folder: Path) -> list[Path]:
    """Write bench.csv, bench.svg and bench.json into `folder`; return them. Raises DiskError."""
    texts = {
        folder / "bench.csv": sheet(run),
        folder / "bench.svg": draw(run),
        folder / "bench.json": json.dumps(run, indent=1, ensure_ascii=False) + "\n",
    }
    replace_files(texts)
    return list(texts)


def publish(run: Data, file: Path) -> list[Path]:
    """Write `run` as the page `file` and its picture beside it; return both. Raises DiskError."""
    picture = file.with_suffix(".svg")
    replace_files({picture: draw(run), file: page(run, picture)})
    return [file, picture]


def effort_for(subject: Subject, effort: Effort) -> Effort:
    """Return the effort to spend on `subject`: less for a model that costs so much more."""
    is_heavy = read_work(subject.snapshot).per_token(HEAVY_LENGTH) > HEAVY
    return effort.lighter() if is_heavy else effort


def _subjects(asked: Asked, recipe: Recipe, say: Say) -> Iterator[Subject]:
    """Yield the bundle's own model, if it has one or nothing else was asked for, and the twin."""
    if asked.bundle is None:
        program = served.from_checkout(asked.service, threads=asked.threads)
        name, weights = asked.twin or CHECKOUT_TWIN, "whole"
    else:
        program = served.from_bundle(asked.bundle, threads=asked.threads)
        manifest = read(asked.bundle)
        weights = profile_named(manifest.profile, recipe.sections["diet"]).weights
        if manifest.default_model is not None or asked.twin is None:
            yield own(asked.bundle, snapshot=asked.snapshot, threads=asked.threads)
        if asked.twin is None:
            return
        name = asked.twin
    yield twin(
        name,
        asked.twins,
        texts=[text for _, text in sorted(topics.items())],
        program=program,
        weights=weights,
        say=say,
    )


def _others(asked: Asked, subject: Subject, folder: Path) -> Others:
    found, absent = peers.find(asked.peers, snapshot=subject.snapshot, models=asked.peer_models)
    return Others(peers=found, absent=absent, folder=folder)


def _weights(asked: Asked, say: Say) -> list[Figure]:
    """Return the sizes of bundles; the twin with weights in half is made for it, and removed."""
    source = asked.twins / LARGE_TWIN
    if asked.twin != LARGE_TWIN or not (asked.lean / "manifest.json").is_file():
        return weighing.weigh(asked.lean, asked.none, None)
    say("weighing bundles")
    half = served_copy(source, weights="half")
    try:
        return weighing.weigh(asked.lean, asked.none, half)
    finally:
        shutil.rmtree(half, ignore_errors=True)
