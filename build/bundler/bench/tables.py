"""A run as tables for people: Markdown, so that they can be pasted as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bundler.bench.neighbours import LOUD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Data = dict[str, Any]

MEGABYTE = 1_000_000
GIGA = 1e9
NOT_MEASURED = "not measured"


def tables(run: Data) -> Iterator[str]:
    """Yield the lines of everything that people read of a run."""
    yield from _machine(run)
    for subject in run["subjects"]:
        yield from _subject(subject)
    yield "## Summary"
    yield ""
    yield from summary(run["figures"])


def summary(figures: Sequence[Data]) -> Iterator[str]:
    """Yield the figures as a table, what we want of each beside it, and why some are missing."""
    rows = []
    missing: dict[str, list[str]] = {}
    for figure in figures:
        goal = figure["aim"]
        wanted = f"{goal['sign']} {amount(goal['bound'], figure['unit'])}" if goal else ""
        value = figure["value"]
        told = NOT_MEASURED if value is None else amount(value, figure["unit"])
        if value is None:
            missing.setdefault(" ".join(figure["why"].split()), []).append(figure["name"])
        verdict = {True: "yes", False: "no", None: ""}[figure["is_met"]]
        rows.append((figure["subject"], figure["title"], told, wanted, verdict))
    yield from _table(("model", "figure", "value", "aim", "met"), rows)
    for why, names in missing.items():
        yield f"- {NOT_MEASURED}: {', '.join(dict.fromkeys(names))}: {why}"


def amount(value: float, unit: str) -> str:
    """Return a value with its unit, in as many digits as it deserves."""
    if unit == "bytes":
        return f"{value / MEGABYTE:.0f} MB"
    if unit == "s":
        return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _machine(run: Data) -> Iterator[str]:
    machine = run["machine"]
    yield "## Machine"
    yield ""
    yield f"{machine['processor']}, {machine['usable_cores']} physical cores to use, "
    yield f"{run['threads']} threads for everybody, {machine['system']}, {machine['date']}, "
    load = machine["load_average"]
    yield f"load average {load[0]:.1f} before" if load else "load unknown"
    yield f"instructions: {', '.join(machine['flags']) or 'unknown'}"
    yield ""


def _subject(subject: Data) -> Iterator[str]:
    corpus, tokens = subject["corpus"], subject["corpus"]["tokens"]
    yield f"## {subject['name']}, from the {subject['origin']}, weights {subject['weights']}"
    yield ""
    sources = "; ".join(f"{count} from {name}" for name, count in corpus["sources"].items())
    yield f"{corpus['texts']} texts (sha256 {corpus['digest'][:12]}): {sources}."
    numbers = [f"{tokens[key]:.0f}" for key in ("mean", "p50", "p95", "max")]
    yield "Tokens a text: mean {}, p50 {}, p95 {}, most {}.".format(*numbers)
    yield ""
    yield from _table(
        ("tokens", "texts"), [(row["tokens"], row["texts"]) for row in corpus["histogram"]]
    )
    yield from _contenders(subject)
    yield from _starts(subject)
    yield from _together(subject)
    yield from _ceilings(subject)
    yield from _sweep(subject)
    yield from _vectors(subject)
    yield from _writing(subject)


def _contenders(subject: Data) -> Iterator[str]:
    rows: list[Sequence[object]] = []
    for each in subject["contenders"]:
        found = each["summary"]
        rows.append(
            (
                each["name"],
                f"{found['whole_texts_per_s']:.1f}",
                f"{found['requests_texts_per_s']:.1f}",
                *(f"{found['request'][key] * 1e3:.0f}" for key in ("p50", "p95", "p99")),
                *(f"{found['single'][key] * 1e3:.1f}" for key in ("p50", "p95", "p99")),
                *(_bytes(each[key]) for key in ("private_bytes", "peak_bytes")),
            )
        )
    columns = (
        *("who", "whole, texts/s", "requests, texts/s", "request p50 ms", "p95", "p99"),
        *("single p50 ms", "p95", "p99", "private MB", "peak MB"),
    )
    yield from _table(columns, rows)
    for each in subject["contenders"]:
        if told := _told(each["info"]):
            yield f"- {each['name']}: {told}"
    for each in subject["absent"]:
        reason = " ".join(str(each["why"]).split())
        yield f"- {each['name']} is absent: {reason}"
    yield ""


def _told(info: Data) -> str:
    """Return what one says of itself: a service its engine, the baseline its libraries."""
    facts = [f"{key} {info[key]}" for key in ("engine", "precision", "device") if key in info]
    facts += [f"{name} {version}" for name, version in info.get("versions", {}).items()]
    return ", ".join(facts)


def _starts(subject: Data) -> Iterator[str]:
    rows = []
    for each in subject["contenders"]:
        for number, start in enumerate(each["starts"], 1):
            phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in start.get("phases", ()))
            if "import_s" in start:
                phases = f"import {start['import_s']:.2f}, load {start['load_s']:.2f}"
            port = f"{start['port_s']:.2f}" if "port_s" in start else ""
            rows.append((each["name"], number, port, f"{start['vector_s']:.2f}", phases))
    yield from _table(("start of", "round", "port s", "first vector s", "phases, s"), rows)


def _together(subject: Data) -> Iterator[str]:
    rows: list[Sequence[object]] = []
    for each in subject["contenders"]:
        for number, (crowd, bulk) in enumerate(zip(each["crowds"], each["bulk_s"], strict=True), 1):
            rates = [f"{crowd['texts'] / seconds:.1f}" for seconds in (crowd["seconds"], bulk)]
            rows.append((each["name"], number, *rates, crowd["failures"]))
    columns = ("who", "round", "many clients, texts/s", "one bulk client, texts/s", "failures")
    yield from _table(columns, rows)


def _ceilings(subject: Data) -> Iterator[str]:
    names = sorted({name for rates in subject["ceilings"] for name in rates})
    rows = []
    for number, (rates, share) in enumerate(
        zip(subject["ceilings"], subject["others"], strict=True), 1
    ):
        others = "unknown" if share is None else f"{share:.0%}"
        rows.append((number, *(f"{rates[name] / GIGA:.0f}" for name in names), others))
    ceilings = (f"GEMM ceiling by {name}, GFLOP/s" for name in names)
    yield from _table(("round", *ceilings, "of the machine taken by others"), rows)
    yield f"{subject['work']['flops_per_token'] / 1e6:.1f} MFLOP a token."
    if any(share is not None and share > LOUD for share in subject["others"]):
        yield "The machine was not quiet: measure again before you believe these figures."
    yield ""


def _sweep(subject: Data) -> Iterator[str]:
    rows = [
        (
            cell["clients"],
            cell["size"],
            f"{cell['texts'] / cell['seconds']:.1f}",
            f"{cell['p95'] * 1e3:.0f}",
            cell["failures"],
        )
        for cell in subject["sweep"]
    ]
    yield from _table(("clients", "texts a request", "texts/s", "p95 ms", "failures"), rows)


def _vectors(subject: Data) -> Iterator[str]:
    found = subject["vectors"]
    rows: list[Sequence[object]] = []
    for each in found["contenders"]:
        cosine, agreement, retrieval = (each[k] for k in ("cosine", "agreement", "retrieval"))
        rows.append(
            (
                each["name"],
                *((f"{cosine[k]:.6f}" if cosine else "") for k in ("smallest", "mean")),
                *((f"{agreement[k]:.4f}" if agreement else "") for k in ("ndcg", "recall")),
                *((f"{retrieval[k]:.4f}" if retrieval else "") for k in ("ndcg", "recall")),
            )
        )
    columns = (
        *("vectors of", f"cosine to {found['reference']}, smallest", "mean"),
        *("nDCG@10 of its ranking", "recall@10", "titles: nDCG@10", "recall@10"),
    )
    yield from _table(columns, rows)


def _writing(subject: Data) -> Iterator[str]:
    rows = [
        (each["form"], f"{each['seconds'] * 1e3:.1f}", f"{each['size'] / MEGABYTE:.1f}")
        for each in subject["writing"]
    ]
    yield from _table(("1,000 vectors of 768 as", "ms", "MB"), rows)


def _bytes(value: int | None) -> str:
    return "" if value is None else f"{value / MEGABYTE:.0f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    if not rows:
        return
    for cells in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(str(cell) for cell in cells)} |"
    yield ""
