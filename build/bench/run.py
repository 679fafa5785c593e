"""One run, from its options to what was measured."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import SHAPES, client, measurement, quality, systems
from bench.client import send_all
from bench.measurement import Measured, effort_for, measure
from bench.report import BenchReport, csv_text, table
from bench.synthetic import write_model
from bench.systems import ENGINES, FASTEMBED, INT8
from bundler.assembly.derivation import derive
from bundler.bundle import SERVICE
from bundler.errors import SmokeError, UsageError
from bundler.launch import TEXT, command
from bundler.profiles import profile_named
from sidecar.manifest import read
from sidecar.models.golden import read as read_golden
from sidecar.process import cpu_features

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.client import Answer, Connect
    from bench.measurement import Effort, Say
    from bench.systems import System
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
    rounds: int | None = None
    fastembed: Path | None = None
    peers: Sequence[Path] = ()
    peer_models: Mapping[str, Path] = field(default_factory=dict)


def run(options: Options, recipe: Recipe, say: Say) -> BenchReport:
    """Measure each model beside every system.

    Raises UsageError for what cannot be measured, SmokeError if our service does not answer.
    """
    described = measurement.describe()
    unmeasurable = _without_byte_products(os.environ.get(cpu_features.VARIABLE, ""))
    models = []
    for served in _served(options, recipe):
        snapshot, threads = served.snapshot, options.threads
        sizes = measurement.read_sizes(snapshot)
        effort = options.effort or effort_for(sizes, is_quick=options.is_quick)
        effort = replace(effort, rounds=options.rounds or effort.rounds)
        texts = client.gather_corpus(effort.texts)
        say(f"{served.name}: {len(texts)} texts, {threads} threads")
        with tempfile.TemporaryDirectory(prefix="bench-") as home:
            others, absent = systems.others(
                snapshot, threads, options.peers, options.peer_models, Path(home)
            )
            absent |= unmeasurable
            if effort.has_engines:
                others += _engines(served, options, absent, Path(home) / FASTEMBED)
            else:
                absent[FASTEMBED] = "a round of it takes minutes with a model of this size"
            measured = Measured(
                model=served.name,
                served_by=served.by,
                threads=threads,
                effort=effort,
                absent=absent,
            )
            own = systems.ours(served.program, threads)
            measure(measured, snapshot, [*own, *others], texts, say)
        if served.golden is not None and (INT8 in measured.systems or INT8 in unmeasurable):
            say("comparing int8 with float32")
            golden = read_golden(served.golden)
            measured.quality = quality.compare(own, golden, effort.ranked, threads)
        models.append(measured)
    return BenchReport(machine=described, models=models)


def _without_byte_products(lacks: str) -> dict[str, str]:
    """Return the systems whose speed this processor does not show, with the reason."""
    if cpu_features.detect(lacks=lacks).has_byte_products is not False:
        return {}
    why = f"its speed is not measurable without {cpu_features.BYTE_PRODUCT_NAMES}"
    return dict.fromkeys((INT8, ENGINES[INT8]), why)


def _engines(served: Served, options: Options, absent: dict[str, str], home: Path) -> list[System]:
    """Return our engine in process and fastembed, or say in `absent` why that is not there."""
    found = systems.engines(served.python, served.service, served.folder, options.threads)
    if options.fastembed is None:
        absent[FASTEMBED] = "no Python that has it is named: --fastembed PYTHON"
        return found
    try:
        made = systems.fastembed(options.fastembed, served.snapshot, options.threads, home)
    except SmokeError as error:
        absent[FASTEMBED] = f"{error}: {error.why}"
    except OSError as error:
        absent[FASTEMBED] = str(error)
    else:
        found.append(made)
    return found


def replay_in(options: Options, recipe: Recipe, folder: Path, clients: int) -> Replayed:
    """Start our service with the first model and send it the requests saved in `folder`.

    Raises UsageError if there are none, SmokeError if the service does not start.
    """
    requests = read_requests(folder)
    whole, _ = systems.ours(next(_served(options, recipe)).program, options.threads)
    running = systems.start(whole, ["first"], threads=options.threads)
    try:
        return replay(running.connect, requests, clients=clients)
    finally:
        running.service.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model that our service serves: by what, by which command, and out of which `folder`.

    `snapshot` has the whole weights, `python` the packages of the engine, `service` its sources.
    A synthetic model has no `golden` vectors: its vectors mean nothing.
    """

    name: str
    snapshot: Path
    folder: Path
    by: str
    program: Sequence[str]
    service: Path
    golden: Path | None = None

    @property
    def python(self) -> str:
        """The interpreter that serves it."""
        return self.program[0]


def _served(options: Options, recipe: Recipe) -> Iterator[Served]:
    """Yield the bundle's models, the default one first, then the synthetic one asked for."""
    if options.bundle is None:
        program = [sys.executable, "-I", "-B", str(options.service), *TEXT]
        snapshot, folder = _synthetic(options, options.synthetic or CHECKOUT_MODEL, "whole")
        yield Served(
            name=snapshot.name,
            snapshot=snapshot,
            folder=folder,
            by="the checkout, whole weights",
            program=[*program, "--model", str(folder)],
            service=options.service,
        )
        return
    program, manifest = command(options.bundle, TEXT), read(options.bundle)
    by, service = f"the bundle {options.bundle.name}", options.bundle / SERVICE
    for model in sorted(manifest.models, key=lambda each: each.name != manifest.default_model):
        is_default = model.name == manifest.default_model
        folder = options.bundle / model.snapshot
        weights = "whole" if (folder / LOCKED_WEIGHTS).is_file() else "half"
        yield Served(
            name=model.name,
            snapshot=(options.snapshot if is_default else None) or folder,
            folder=folder,
            by=f"{by}, {weights} weights",
            program=program if is_default else [*program, "--model", model.name],
            service=service,
            golden=options.bundle / model.golden if model.golden else None,
        )
    if not manifest.models and options.synthetic is None:
        raise UsageError(
            f"the bundle {options.bundle.name} has no model",
            next_step="--synthetic measures it with a synthetic one",
        )
    if options.synthetic is not None:
        weights = profile_named(manifest.profile, recipe.sections["diet"]).weights
        snapshot, folder = _synthetic(options, options.synthetic, weights)
        # A bundle serves what its manifest names, and other models where downloads are allowed.
        yield Served(
            name=snapshot.name,
            snapshot=snapshot,
            folder=folder,
            by=f"{by}, {weights} weights",
            program=[*program, "--allow-download", "--model", str(folder)],
            service=service,
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


SHOWN = 5  # names of requests for each kind of failure
COLUMNS = ("request", "status", "kind", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The response to each saved request, by file name, and the seconds for all of them."""

    answers: Sequence[tuple[str, Answer]]
    clients: int
    seconds: float

    def lines(self) -> Iterator[str]:
        """Yield the report: by status the number and latencies, then which requests failed."""
        rate = len(self.answers) / self.seconds
        yield (
            f"{len(self.answers)} requests by {self.clients} clients in {self.seconds:.2f} s, "
            f"{rate:.1f} requests/s"
        )
        yield ""
        rows = []
        for status in sorted({answer.status for _, answer in self.answers}):
            seconds = [answer.seconds for _, answer in self.answers if answer.status == status]
            quantiles = [f"{value * 1e3:.1f}" for value in np.percentile(seconds, (50, 95, 99))]
            rows.append([str(status or "no response"), str(len(seconds)), *quantiles])
        yield from table(["status", "requests", "p50 ms", "p95 ms", "p99 ms"], rows)
        failed: dict[str, list[str]] = {}
        for name, answer in self.answers:
            if not answer.is_ok:
                failed.setdefault(f"{answer.status} {kind_of(answer)}".strip(), []).append(name)
        for what, names in failed.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"- {what}: {', '.join(names[:SHOWN])}{more}"

    def csv(self) -> str:
        """Return a line for every request, under COLUMNS."""
        rows = [(name, one.status, kind_of(one), one.seconds) for name, one in self.answers]
        return csv_text([COLUMNS, *rows])


def read_requests(folder: Path) -> list[tuple[str, bytes]]:
    """Return the bodies in `folder` with their names, in order. Raises UsageError without any."""
    found = sorted(folder.glob("*.json"))
    if not found:
        raise UsageError(
            f"there are no saved requests in {folder}",
            why="a request is a file *.json with the body of /embed",
        )
    return [(path.name, path.read_bytes()) for path in found]


def replay(connect: Connect, requests: Sequence[tuple[str, bytes]], *, clients: int) -> Replayed:
    """Send each body by the next of `clients` that is free; a failure is kept, not raised."""
    started = time.perf_counter()
    answers = send_all(connect, [body for _, body in requests], clients=clients)
    seconds = time.perf_counter() - started
    named = [(name, answer) for (name, _), answer in zip(requests, answers, strict=True)]
    return Replayed(answers=named, clients=clients, seconds=seconds)


def kind_of(answer: Answer) -> str:
    """Return the kind of problem that a response names (RFC 9457), or nothing."""
    if answer.is_ok:
        return ""
    try:
        problem: Any = json.loads(answer.body)
        return str(problem["type"]).rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return ""
