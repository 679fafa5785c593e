"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides a plan."""
    parser.add_argument("--target", metavar="NAME", help="the platform to assemble for (this one)")
    parser.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        default=[],
        help="a model of the catalogue to embed, the first is the default; repeatable",
    )
    parser.add_argument("--profile", metavar="NAME", help="the diet: none, safe or lean (safe)")
    parser.add_argument(
        "--runtime",
        choices=("auto", "standalone", "host"),
        default="auto",
        help="where CPython comes from; auto takes a copy of this machine's where the locked one "
        "cannot be reached, and says so (auto)",
    )
    parser.set_defaults(release=False, output=None)
    parser.add_argument(
        "--only",
        metavar="PARTS",
        type=lambda text: tuple(text.split(",")),
        help="some of runtime,wheels,models,service",
    )


def add_fetch_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides where artifacts come from."""
    parser.add_argument("--offline", action="store_true", help="use what the store holds, only")
    parser.add_argument(
        "--mirror",
        metavar="NAME=ADDRESS",
        action="append",
        default=[],
        help="another address for torch, runtime or hub; repeatable",
    )
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER", help="where downloads are kept (bundle/out/store)"
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add where the bundle goes, and what it is for."""
    parser.add_argument(
        "--release", action="store_true", help="refuse stand-ins and parts left out (exit 7)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="the bundle's folder (bundle/out/TARGET)"
    )
