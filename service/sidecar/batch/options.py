"""The options of `embed`, beside those that say which model computes and how."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from sidecar.arguments import Parser, number
from sidecar.documents.chunking import Unit
from sidecar.engines import Truncation
from sidecar.errors import UsageError
from sidecar.models.prompts import InputType
from sidecar.settings import MOST_DOCUMENT_S
from sidecar.web.schemas import Pooling

Format = Literal["parquet", "lance"]
DType = Literal["float32", "float16"]
MOST_SHARD_ROWS = 1 << 20
MOST_CHUNKS = 65_536
MOST_ACTORS = 65_536
DESCRIPTION = """\
Embed files of rows, or folders of documents, into Parquet. A run that was
stopped or killed goes on where it was when the command is given again.
"""
EXIT_CODES = """exit codes:
  0  every row is written: with a vector,    5  the model, or the cluster, is not here
     or with its error                       6  a file cannot be read or written
  1  a bug                                   7  the model is refused by a rule
  2  usage, or the output is another job's  10  this system is too old
  4  a file of the model or of the output   11  the model cannot be loaded, or its
     is damaged                                 engine fails on every text
128+ stopped by a signal of this number
"""
HELP = {
    "--output": "folder of the shards; a new one, or that of the same job",
    "--model": "a model of the bundle by name or repository (its default model); outside a bundle "
    "also a folder with a snapshot, or a repository",
    "--text-column": "column, or key, of the texts (text)",
    "--id-column": "column, or key, of what the rows are known by in the output; by default they "
    "have their position alone",
    "--format": "parquet, a file for each shard, or, where pylance is installed, lance: a dataset "
    "that shards are added to (parquet)",
    "--dtype": "type of the vectors' values in the output (float32)",
    "--shard-rows": "rows of a shard, which a killed run computes again at most (32768)",
    "--truncate": "where a text is cut that is longer than the model reads: at its end (right) or "
    "its beginning; with never it is an error of its row (right)",
    "--pooling": "how token vectors are pooled into one (mean)",
    "--no-normalize": "leave vectors at the length that the model gives them",
    "--prompt-name": "name of one of the model's prompts, which is put before every text",
    "--prompt": "the prompt itself",
    "--input-type": "the model's prompt for queries, or for documents",
    "--dimensions": "length that vectors are cut to, where the model was trained for it",
    "--chunk-size": "of documents: length of a chunk (800 characters, or the tokens that the model "
    "reads)",
    "--chunk-overlap": "overlap of neighbouring chunks (100)",
    "--max-chunks": "of a document; what further ones would have is a loss of it (65536)",
    "--unit": "what chunks are measured in (chars)",
    "--ray": "a Ray cluster that embeds, by the address of its head (HOST:PORT), auto for the one "
    "that this machine is a node of, or local for one that is this machine; the environment's "
    "RAY_ADDRESS does so, too (none)",
    "--actors": "engines on the cluster, each of which has --threads cores, by default one (as "
    "there is room)",
    "--charset": "encoding of text files; by default UTF-8 or detected",
    "--document-cpu-seconds": "CPU time that reading one PDF may take (10)",
    "--document-seconds": "the same on the clock (120)",
}
# Those of the one kind of input and of the other, by what they are where they are not given.
OF_ROWS = {"text_column": "text", "id_column": None}
OF_DOCUMENTS = {
    "chunk_size": None,
    "chunk_overlap": None,
    "max_chunks": MOST_CHUNKS,
    "unit": "chars",
    "charset": None,
    "document_cpu_s": 10,
    "document_wall_s": 120,
}
OPTIONS = {"document_cpu_s": "--document-cpu-seconds", "document_wall_s": "--document-seconds"}
# Options that are fields of a request to /embed-file, by their names there.
FIELDS = (
    *("pooling", "normalize", "prompt_name", "prompt", "input_type", "dimensions"),
    *("chunk_size", "chunk_overlap", "max_chunks", "unit", "charset"),
)


def parser() -> argparse.ArgumentParser:
    """Return a parser of them."""
    made = Parser(
        prog="embedding_sidecar embed",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inputs = "Parquet, JSON lines or CSV, or folders of PDF, text and Markdown files"
    made.add_argument("inputs", nargs="+", type=Path, metavar="IN", help=inputs)

    def add(name: str, **shape: object) -> None:
        made.add_argument(name, help=HELP[name], **shape)  # type: ignore[arg-type]

    add("--output", type=Path, required=True, metavar="DIR")
    add("--model", metavar="NAME")
    add("--text-column", default="text", metavar="NAME")
    add("--id-column", metavar="NAME")
    add("--format", choices=get_args(Format), default="parquet")
    add("--dtype", choices=get_args(DType), default="float32")
    add("--shard-rows", type=number(1, MOST_SHARD_ROWS), default=32_768, metavar="N")
    add("--truncate", choices=get_args(Truncation), default="right")
    add("--pooling", choices=get_args(Pooling), default="mean")
    add("--no-normalize", dest="normalize", action="store_false")
    add("--prompt-name", metavar="NAME")
    add("--prompt", metavar="TEXT")
    add("--input-type", choices=get_args(InputType))
    add("--dimensions", type=number(1, MOST_SHARD_ROWS), metavar="N")
    add("--chunk-size", type=number(1, 1_000_000), metavar="N")
    add("--chunk-overlap", type=number(0, 1_000_000), metavar="N")
    add("--max-chunks", type=number(1, MOST_CHUNKS), default=MOST_CHUNKS, metavar="N")
    add("--unit", choices=get_args(Unit), default="chars")
    add("--charset", metavar="NAME")
    add("--ray", metavar="ADDRESS")
    add("--actors", type=number(1, MOST_ACTORS), metavar="N")
    seconds = {"type": number(1, MOST_DOCUMENT_S), "metavar": "N"}
    add("--document-cpu-seconds", dest="document_cpu_s", default=10, **seconds)
    add("--document-seconds", dest="document_wall_s", default=120, **seconds)
    return made


def asked(options: argparse.Namespace) -> Mapping[str, object]:
    """Return the fields of a request that `options` give, those alone that are given."""
    told = vars(options)
    return {name: told[name] for name in FIELDS if told[name] is not None}


def refuse_unread(options: argparse.Namespace, *, is_of_rows: bool) -> None:
    """Raise UsageError for an option of inputs of the other kind, which would do nothing."""
    unread, kind = (OF_DOCUMENTS, "documents") if is_of_rows else (OF_ROWS, "files of rows")
    told = vars(options)
    for name, default in unread.items():
        if told[name] != default:
            option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
            raise UsageError(f"{option} is for {kind} alone", next_step="leave it out")
