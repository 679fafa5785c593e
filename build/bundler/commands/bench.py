"""Measure speed and memory: our service beside sentence-transformers and every installed peer.

Tables go to standard output; bench.json, bench.csv and bench.svg into --output. docs/performance.md
says what each figure means. Nothing fails because a figure is low.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.bench.shapes import TWINS
from bundler.commands.options import bundles_at, file, folder, own_bundle, place
from bundler.errors import UsageError
from sidecar.arguments import number

if TYPE_CHECKING:
    from bundler.bench.run import Asked
    from bundler.console import Console
    from bundler.project import Project

DOCUMENTATION = Path("/usr/share/doc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("--quick", action="store_true", help="fewer texts and rounds: minutes less")
    parser.add_argument(
        "--bundle", type=Path, metavar="PATH", help="the bundle to measure (this machine's)"
    )
    parser.add_argument(
        "--checkout",
        action="store_true",
        help="serve twins from the sources, by the project's own environment; needs no bundle",
    )
    parser.add_argument(
        "--twin",
        nargs="?",
        const=next(iter(TWINS)),
        choices=TWINS,
        help="also measure a model of a real one's shape with weights by lot (xlmr-base)",
    )
    parser.add_argument(
        "--snapshot",
        type=folder,
        metavar="FOLDER",
        help="the bundle's model with its locked weights, for the others, where the bundle holds "
        "them in half",
    )
    parser.add_argument(
        "--threads", type=number(1, 1024), metavar="N", help="for everybody (physical cores)"
    )
    parser.add_argument(
        "--peer",
        type=file,
        action="append",
        default=[],
        metavar="PROGRAM",
        help="a server that is not on PATH: infinity_emb, text-embeddings-router, ollama or "
        "llama-server; repeatable",
    )
    parser.add_argument(
        "--peer-model",
        type=_peer_model,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="the GGUF file of the model for ollama or llama-server; repeatable",
    )
    parser.add_argument(
        "--replay", type=folder, metavar="FOLDER", help="send saved requests instead of measuring"
    )
    parser.add_argument(
        "--export", type=place, metavar="FOLDER", help="save this run's requests, for --replay"
    )
    parser.add_argument(
        "--lean",
        type=Path,
        metavar="PATH",
        help="the lean bundle to weigh (bundle/out/TARGET-lean)",
    )
    parser.add_argument(
        "--none", type=Path, metavar="PATH", help="the undieted one (bundle/out/TARGET-none)"
    )
    parser.add_argument(
        "--output", type=place, metavar="FOLDER", help="where the files go (bundle/out/bench)"
    )
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="also write a page for documents, with its picture",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse two subjects at once, and bundles that are not there."""
    if options.checkout and options.bundle is not None:
        raise UsageError(
            "--checkout and --bundle cannot both be measured",
            why="the one serves from the sources, the other from what was assembled",
            next_step="leave one of them out",
        )
    if not options.checkout:
        own_bundle(project, options.bundle)
    bundles_at(project, [path for path in (options.lean, options.none) if path], [], None)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Measure; print and save."""
    from bundler.bench.run import publish, replay_in, save  # noqa: PLC0415 - needs the environment
    from bundler.bench.run import run as measure  # noqa: PLC0415
    from bundler.bench.tables import tables  # noqa: PLC0415
    from bundler.recipe import read_recipe  # noqa: PLC0415

    asked = _asked(options, project)
    recipe = read_recipe(project.recipe)
    if options.replay is not None:
        sent = replay_in(asked, recipe, options.replay, console.say)
        sys.stdout.write("".join(f"{line}\n" for line in sent.lines()))
        return 0
    found = measure(asked, recipe, console.say)
    saved = save(found, options.output or project.out / "bench")
    if options.page is not None:
        saved += publish(found, options.page)
    for path in saved:
        console.say(f"saved: {path}")
    if options.json:
        json.dump(found, sys.stdout, indent=1, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in tables(found)))
    return 0


def _asked(options: argparse.Namespace, project: Project) -> Asked:
    from bundler.bench.effort import FULL, QUICK  # noqa: PLC0415 - with the rest
    from bundler.bench.run import Asked  # noqa: PLC0415
    from bundler.profiles import label  # noqa: PLC0415
    from bundler.targets import host_target  # noqa: PLC0415
    from sidecar.process import cores  # noqa: PLC0415

    host = host_target().name
    return Asked(
        service=project.service,
        bundle=None if options.checkout else options.bundle or project.output(host),
        twin=options.twin,
        snapshot=options.snapshot,
        threads=options.threads or cores.count(),
        effort=QUICK if options.quick else FULL,
        twins=project.out / "bench" / "twins",
        documentation=DOCUMENTATION,
        lean=options.lean or project.output(label(host, "lean")),
        none=options.none or project.output(label(host, "none")),
        peers=options.peer,
        peer_models=dict(options.peer_model),
        export=options.export,
    )


def _peer_model(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not Path(path).is_file():
        message = f"{text} is not ollama=FILE with a file that is there"
        raise argparse.ArgumentTypeError(message)
    return name, Path(path)
