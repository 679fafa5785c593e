"""A run as CSV: one line per measured value, in the units of their names."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    Data = dict[str, Any]

COLUMNS = ("subject", "contender", "measure", "round", "clients", "size", "value", "unit")
Row = tuple[object, ...]


def sheet(run: Data) -> str:
    """Return every value of `run`, each in a line of its own, under COLUMNS."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for subject in run["subjects"]:
        for contender, measure, *rest in _rows(subject):
            writer.writerow((subject["name"], contender, measure, *rest))
    for figure in run["figures"]:
        if figure["value"] is not None:
            value = (figure["value"], figure["unit"])
            writer.writerow((figure["subject"], "", f"figure {figure['name']}", "", "", "", *value))
    return text.getvalue()


def _rows(subject: Data) -> Iterator[Row]:
    texts, size = subject["corpus"]["texts"], subject["effort"]["request_size"]
    for row in subject["corpus"]["histogram"]:
        yield "", f"tokens {row['tokens']}", "", "", "", row["texts"], "texts"
    for number, rates in enumerate(subject["ceilings"], 1):
        for name, rate in sorted(rates.items()):
            yield name, "ceiling", number, "", "", rate, "FLOP/s"
    for each in subject["contenders"]:
        yield from _contender(each, texts, size)
    for cell in subject["sweep"]:
        place = ("", cell["clients"], cell["size"])
        yield "sidecar", "sweep", *place, cell["texts"] / cell["seconds"], "texts/s"
        yield "sidecar", "sweep p95", *place, cell["p95"], "s"
    for each in subject["writing"]:
        yield "sidecar", f"writing {each['form']}", "", "", "", each["seconds"], "s"


def _contender(each: Data, texts: int, size: int) -> Iterator[Row]:
    name = each["name"]
    for number, start in enumerate(each["starts"], 1):
        for key in ("port_s", "ready_s", "vector_s", "import_s", "load_s"):
            if key in start:
                yield name, f"start {key[:-2]}", number, "", "", start[key], "s"
    for number, seconds in enumerate(each["whole_s"], 1):
        yield name, "whole", number, 1, texts, seconds, "s"
    for key, length in (("requests", size), ("singles", 1)):
        for number, several in enumerate(each[f"{key}_s"], 1):
            yield from ((name, key, number, 1, length, seconds, "s") for seconds in several)
    yield from _together(each)
    for key in ("private", "peak"):
        if each[f"{key}_bytes"] is not None:
            yield name, f"memory {key}", "", "", "", each[f"{key}_bytes"], "bytes"


def _together(each: Data) -> Iterator[Row]:
    """Yield what many clients at once met."""
    name = each["name"]
    for number, (crowd, bulk) in enumerate(zip(each["crowds"], each["bulk_s"], strict=True), 1):
        yield name, "crowd", number, len(crowd["latencies"]), 1, crowd["seconds"], "s"
        yield name, "bulk", number, 1, crowd["texts"], bulk, "s"
    for beside in each["beside"]:
        for key in ("idle", "busy"):
            yield from ((name, f"single {key}", "", 1, 1, s, "s") for s in beside[key])
