"""Measure speed and memory: our service beside sentence-transformers and every installed peer.

Tables go to standard output; bench.json, bench.csv and bench.svg into --output. docs/performance.md
explains the figures. With --against an earlier bench.json the command ends with exit code 8 if a
ratio fell below 0.9 of the earlier one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bench import SHAPES
from bundler.commands.options import FOLDER, REPEATABLE, file, folder, own_bundle, place
from bundler.console import print_lines
from sidecar.arguments import number

if TYPE_CHECKING:
    from bench.run import Options
    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer texts and rounds: a few minutes")
    add("--rounds", type=number(1, 1000), metavar="N", help="rounds of every measure (7)")
    served = parser.add_mutually_exclusive_group()
    served.add_argument(
        "--bundle", type=Path, metavar="PATH", help="the bundle to measure (this machine's)"
    )
    text = "serve a synthetic model from the sources; needs no bundle"
    served.add_argument("--checkout", action="store_true", help=text)
    largest = next(iter(SHAPES))
    text = f"also measure a synthetic model: real architecture, random weights ({largest})"
    add("--synthetic", nargs="?", const=largest, choices=SHAPES, help=text)
    text = (
        "the bundle's model with its locked weights, for the other systems, where the bundle holds "
        "them in half precision"
    )
    add("--snapshot", **FOLDER, type=folder, help=text)
    text = "threads of every system (physical cores)"
    add("--threads", type=number(1, 1024), metavar="N", help=text)
    text = (
        "a server that is not on PATH: infinity_emb, text-embeddings-router, ollama or "
        "llama-server; repeatable"
    )
    add("--peer", **REPEATABLE, type=file, metavar="PROGRAM", help=text)
    text = "the GGUF file of the model for ollama or llama-server; repeatable"
    add("--peer-model", **REPEATABLE, type=_gguf, metavar="NAME=FILE", help=text)
    text = "a Python that has fastembed, to measure it in process"
    add("--fastembed", type=file, metavar="PYTHON", help=text)
    add("--against", type=file, metavar="FILE", help="the bench.json of an earlier run")
    text = "send saved requests instead of measuring"
    add("--replay", **FOLDER, type=folder, help=text)
    text = "send the requests of --replay by N clients at once (1)"
    add("--clients", type=number(1, 1024), default=1, metavar="N", help=text)
    add("--output", **FOLDER, type=place, help="where the files go (bundle/out/bench)")
    text = "also write a page of Markdown, with its chart"
    add("--page", type=Path, metavar="FILE", help=text)
    add("--json", action="store_true", help="print everything as JSON instead")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse a bundle that is not there."""
    if not options.checkout:
        own_bundle(project, options.bundle)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Measure, or send saved requests; print and save."""
    from bench import report
    from bench import run as bench
    from bundler.atomic import replace_files
    from bundler.recipe import read_recipe

    chosen = _chosen(options, project)
    recipe = read_recipe(project.recipe)
    output = options.output or project.out / "bench"
    if options.replay is not None:
        sent = bench.replay_in(chosen, recipe, options.replay, options.clients)
        print_lines(sent.lines())
        replace_files({output / "replay.csv": sent.csv()})
        return 0
    before = None if options.against is None else report.read_ratios(options.against)
    found = bench.run(chosen, recipe, console.say)
    print_lines(found.json().splitlines() if options.json else found.tables())
    for path in found.save(output, options.page):
        console.say(f"saved: {path}")
    if before is not None:
        now = report.named_ratios(found.document())
        print_lines(report.comparison(before, now))
        report.require_no_worse(before, now)
    return 0


def _chosen(options: argparse.Namespace, project: Project) -> Options:
    from bench.run import Options
    from sidecar.process import cores

    return Options(
        service=project.service,
        bundle=None if options.checkout else own_bundle(project, options.bundle),
        synthetic=options.synthetic,
        snapshot=options.snapshot,
        threads=options.threads or cores.count(),
        is_quick=options.quick,
        rounds=options.rounds,
        models=project.out / "bench" / "models",
        peers=options.peer,
        peer_models=dict(options.peer_model),
        fastembed=options.fastembed,
    )


def _gguf(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not Path(path).is_file():
        message = f"{text} is not ollama=FILE with a file that is there"
        raise argparse.ArgumentTypeError(message)
    return name, Path(path)
