"""The measurement: rounds in which every system has its turn, so that noise hits all alike."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import platform
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from bench import client
from bench.quality import cosines
from bench.systems import ENGINES, GEMM, LIBRARY, OURS, library, start
from bundler.errors import SmokeError, UsageError
from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from bench.quality import Quality
    from bench.systems import Running, System

    Say = Callable[[str], None]
    Rows = NDArray[np.float32]

SECONDS = ("start", "whole", "requests", "single", "turns", "alone", "beside")
UNITS = {**dict.fromkeys(SECONDS, "s"), "private": "bytes", "ceiling": "FLOP/s", "others": "share"}
MACHINE = "machine"  # stands for a system where the machine itself is measured
BUSY = 0.1  # beyond this share of the machine, other programs distort a round
# Above so many operations for a token, fewer texts make rounds that are long enough.
HEAVY, HEAVY_LENGTH = 100e6, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Numbers of texts, starts and rounds: by default those of a full measurement.

    `has_engines` says whether libraries other than the reference are measured in process, too;
    `ranked` is the number of paragraphs that int8 is compared on.
    """

    texts: int = 384
    starts: int = 3
    rounds: int = 7
    requests: int = 6
    request_size: int = 32
    singles: int = 48
    beside: int = 16
    bulk: int = 256
    ceiling_rows: tuple[int, ...] = (512, 1024, 2048)
    pause_s: float = 0.05
    has_engines: bool = True
    ranked: int = 1000


FULL = Effort()
LARGE = Effort(
    texts=96,
    requests=2,
    singles=24,
    beside=10,
    bulk=64,
    ceiling_rows=(512, 1024),
    has_engines=False,
)
QUICK = Effort(
    texts=128,
    starts=2,
    rounds=2,
    requests=3,
    singles=16,
    beside=10,
    bulk=128,
    ceiling_rows=(512,),
    ranked=200,
)


def effort_for(sizes: Sizes, *, is_quick: bool) -> Effort:
    """Return the effort to spend on a model: with a quarter of the texts on a large one."""
    is_large = sizes.per_token(HEAVY_LENGTH) > HEAVY
    if is_quick:
        return replace(QUICK, has_engines=not is_large)
    return LARGE if is_large else FULL


@dataclass(kw_only=True)
class Measured:
    """A model, and everything that was measured of it.

    `absent` are the systems that cannot be measured, with the reasons. `samples` has for each
    system and measure the values of every round, in the units of UNITS. `quality` is int8's.
    """

    model: str
    served_by: str
    threads: int
    effort: Effort
    corpus: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str]
    flops: int = 0
    systems: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    quality: Sequence[Quality] = ()

    def add(self, system: str, measure: str, values: list[float]) -> None:
        """Keep the values of a round."""
        self.samples.setdefault(system, {}).setdefault(measure, []).append(values)

    def rounds(self, system: str, measure: str) -> list[list[float]]:
        """Return the values of every round; none where it was not measured."""
        return self.samples.get(system, {}).get(measure, [])


def measure(
    measured: Measured, snapshot: Path, systems: Sequence[System], texts: Sequence[str], say: Say
) -> None:
    """Measure `systems`, of which all but our service load `snapshot`: it has the whole weights.

    Raises SmokeError if our service does not start, or a system fails once it has started.
    """
    sizes, effort = read_sizes(snapshot), measured.effort
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    measured.corpus = {"texts": len(texts), "sha256": digest}
    with ExitStack() as stack:
        multiplier = library(snapshot, measured.threads, api=GEMM)
        meter = start(multiplier, [], threads=measured.threads)
        stack.callback(meter.service.stop)
        running = _start_all(systems, texts, measured, stack, say)
        for each in running:
            with each.connect() as connection:
                connection.embed(texts[: effort.request_size])  # warms up, is not measured
        running = _agreeing(running, texts, measured)
        bodies: dict[str, list[bytes]] = {}
        for number in range(effort.rounds):
            say(f"measuring, round {number + 1} of {effort.rounds}")
            load = OtherLoad()
            order = running if number % 2 == 0 else running[::-1]
            before = ceiling(meter, sizes, effort.ceiling_rows)
            bodies = {each.system.name: _whole(each, texts, measured) for each in order}
            after = ceiling(meter, sizes, effort.ceiling_rows)
            for name, rate in before.items():
                measured.add(name, "ceiling", [mean((rate, after[name]))])
            _in_turn(order, texts, measured)
            measured.add(MACHINE, "others", [share := load.share()])
            if share > BUSY:
                say(f"not quiet: other programs took {share:.0%} of the machine in this round")
        for each in running:
            measured.systems[each.system.name] = {"kind": each.system.kind, **each.info()}
    apis = {each.system.name: each.system.api for each in running}
    _compare({name: api.vectors(bodies[name]) for name, api in apis.items()}, measured)
    measured.flops = sizes.total(_lengths(bodies[OURS], measured))


def _start_all(
    systems: Sequence[System],
    texts: Sequence[str],
    measured: Measured,
    stack: ExitStack,
    say: Say,
) -> list[Running]:
    """Start every system several times, one after the other; return those of the last time.

    A system that does not start is absent with the reason, unless it is our own.
    """
    running: list[Running] = []
    starts = measured.effort.starts
    for number in range(starts):
        say(f"starting, round {number + 1} of {starts}")
        for system in systems:
            if system.name in measured.absent:
                continue
            try:
                started = start(system, texts[:1], threads=measured.threads)
            except (SmokeError, OSError) as error:
                if system.name == OURS:
                    raise
                why = error.why if isinstance(error, SmokeError) else str(error)
                measured.absent[system.name] = " ".join(why.split())
                continue
            measured.add(system.name, "start", [started.start_s])
            if number + 1 < starts:
                started.service.stop()
            else:
                stack.callback(started.service.stop)
                running.append(started)
    return running


def _agreeing(
    running: Sequence[Running], texts: Sequence[str], measured: Measured
) -> list[Running]:
    """Return the systems that give our vectors, as far as they must; the others are absent."""
    found = list(running)
    for each in running:
        least = each.system.least_cosine
        if least is None:
            continue
        ours = next(one for one in running if one.system.name == OURS)
        rows, expected = _vectors(each, texts), _vectors(ours, texts)
        is_same_shape = rows.shape == expected.shape
        cosine = float(cosines(rows, expected).min()) if is_same_shape else -1.0
        if not cosine >= least:
            found.remove(each)
            each.service.stop()
            del measured.samples[each.system.name]
            why = f"its vectors are not ours: the least cosine is {cosine:.6f}, below {least}"
            measured.absent[each.system.name] = why
    return found


def _vectors(each: Running, texts: Sequence[str]) -> Rows:
    with each.connect() as connection:
        return each.system.api.vectors(connection.embed(texts)[1])


def _whole(each: Running, texts: Sequence[str], measured: Measured) -> list[bytes]:
    """Send all texts in as few requests as the system takes; return the responses."""
    with watch_private(each.service.process.pid) as sizes, each.connect() as connection:
        seconds, bodies = connection.embed(texts)
    measured.add(each.system.name, "whole", [seconds])
    if sizes:
        measured.add(each.system.name, "private", [max(sizes)])
    return bodies


def _in_turn(order: Sequence[Running], texts: Sequence[str], measured: Measured) -> None:
    """Send requests of mixed lengths, then single texts, then single texts beside bulk.

    Single texts go to one system after the other, then by turns to each of our services and to the
    same engine in process.
    """
    effort = measured.effort
    requests = client.parts(texts, effort.request_size)[: effort.requests]
    singles = texts[: effort.singles]
    for each in order:
        measured.add(each.system.name, "requests", _seconds(each, requests))
    for each in order:
        is_in_process = each.system.is_in_process
        seconds = (
            each.single(singles)[0] if is_in_process else _seconds(each, [[t] for t in singles])
        )
        measured.add(each.system.name, "single", seconds)
    named = {each.system.name: each for each in order}
    for service, engine in ENGINES.items():
        if named.keys() >= {service, engine}:
            found = named[engine].single(singles, service=named[service])
            for name, seconds in zip((engine, service), found, strict=True):
                measured.add(name, "turns", seconds)
    for each in order:
        if not each.system.is_in_process:
            bulk = texts[-min(effort.bulk, each.system.api.largest) :]
            alone, beside = client.beside_bulk(
                each.connect, texts[: effort.beside], bulk, pause_s=effort.pause_s
            )
            measured.add(each.system.name, "alone", alone)
            measured.add(each.system.name, "beside", beside)


def _seconds(each: Running, requests: Iterable[Sequence[str]]) -> list[float]:
    with each.connect() as connection:
        return [connection.embed(texts)[0] for texts in requests]


def _compare(vectors: Mapping[str, Rows], measured: Measured) -> None:
    """Note the cosines of each system's vectors to those of the reference, text by text.

    The reference is sentence-transformers, or our service in float32 where that is absent. Raises
    SmokeError if a system did not give a vector of the same width for each text.
    """
    reference = vectors.get(LIBRARY, vectors[OURS])
    for name, rows in vectors.items():
        if rows.shape != reference.shape:
            raise SmokeError(
                f"{name} did not give the vectors of the texts that it was sent",
                why=f"it gave {rows.shape}, the reference {reference.shape}",
            )
        found = cosines(rows, reference)
        measured.systems[name]["least_cosine"] = float(found.min())
        measured.systems[name]["mean_cosine"] = float(found.mean())


def _lengths(bodies: Sequence[bytes], measured: Measured) -> list[int]:
    """Return how many tokens of each text our service reads, and note their distribution."""
    most = int(measured.systems[OURS]["max_tokens"])
    lengths = [min(count, most) for body in bodies for count in json.loads(body)["tokens"]]
    p50, p95 = np.percentile(lengths, (50, 95))
    measured.corpus["tokens"] = {"mean": mean(lengths), "p50": p50, "p95": p95, "max": max(lengths)}
    return lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of an encoder that decide its arithmetic."""

    layers: int
    width: int
    inner: int

    def per_token(self, length: int) -> int:
        """Return the floating-point operations for one token of a text of `length` tokens.

        A multiplication and its addition are two. Counted are the matrix products alone: four of
        width by width, two of width by inner, and the two of attention, which grow with the text.
        """
        products = 2 * (4 * self.width * self.width + 2 * self.width * self.inner)
        attention = 2 * 2 * length * self.width
        return self.layers * (products + attention)

    def total(self, lengths: Iterable[int]) -> int:
        """Return the operations for texts of these lengths, padding not counted."""
        return sum(length * self.per_token(length) for length in lengths)

    def products(self, rows: int) -> list[tuple[int, int, int, int]]:
        """Return a layer's matrix products for `rows` tokens: m, k, n, and their number."""
        return [
            (rows, self.width, self.width, 4),
            (rows, self.width, self.inner, 1),
            (rows, self.inner, self.width, 1),
        ]


def read_sizes(snapshot: Path) -> Sizes:
    """Return the sizes of the model in `snapshot`. Raises UsageError for an unknown family."""
    try:
        config: dict[str, Any] = json.loads((snapshot / "config.json").read_bytes())
        names = ("num_hidden_layers", "hidden_size", "intermediate_size")
        layers, width, inner = (int(config[name]) for name in names)
        return Sizes(layers=layers, width=width, inner=inner)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"the sizes of the model in {snapshot.name} are not known",
            why=f"its config.json does not name them as BERT's and XLM-R's do ({error})",
            next_step="choose another --bundle, or --synthetic",
        ) from error


def ceiling(meter: Running, sizes: Sizes, rows: Sequence[int]) -> dict[str, float]:
    """Return by library the most floating-point operations a second, over these numbers of rows."""
    with meter.connect() as connection:
        bodies = [connection.embed(sizes.products(number))[1][0] for number in rows]
    found = [json.loads(body)["rates"] for body in bodies]
    return {name: max(rates[name] for rates in found) for name in found[0]}


# The instructions that decide how fast matrices are multiplied.
INSTRUCTIONS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)
INTERVAL_S = 0.05


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Return the processor, cores, system, load and time of day, as plain data."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip().replace("Features", "flags"), value.strip())
    flags = facts.get("flags", "").split()
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": facts.get("model name") or platform.processor() or "unknown processor",
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "hardware_threads": psutil.cpu_count(),
        "cores": cores.count(),
        "load_average": list(psutil.getloadavg()),
    }


def _family(pid: int) -> list[psutil.Process]:
    """Return the process `pid` and every one that it started, directly or not."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def private_bytes(pid: int) -> int | None:
    """Return the private memory of `pid` and its children, None where it is unknown.

    A mapped model is not counted where the system tells: it can be dropped at any time.
    """
    sizes = []
    for process in _family(pid):
        with suppress(psutil.Error):
            found = process.memory_info()
            sizes.append(found.rss - getattr(found, "shared", 0))
    return sum(sizes) if sizes else None


@contextmanager
def watch_private(pid: int) -> Iterator[list[int]]:
    """Give a list that holds the private memory of `pid` at intervals, and at the block's end."""
    found: list[int] = []
    is_over = threading.Event()

    def look() -> None:
        is_last = False
        while not is_last:
            is_last = is_over.wait(INTERVAL_S)
            if (size := private_bytes(pid)) is not None:
                found.append(size)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


class OtherLoad:
    """Measures the share of all cores that other programs took since it was made.

    A library whose threads spin while they wait loses many times its speed as soon as another
    program takes one of its cores: a busy machine distorts a comparison.
    """

    def __init__(self) -> None:
        self._started, self._before = time.perf_counter(), others_s()

    def share(self) -> float:
        """Return the share, from 0 to 1."""
        seconds = time.perf_counter() - self._started
        others = (others_s() - self._before) / seconds / (psutil.cpu_count() or 1)
        return min(1.0, max(0.0, others))


def others_s() -> float:
    """Return the CPU time of all processes but ours, in seconds."""
    times = psutil.cpu_times()._asdict()
    # A guest's time is in its host's.
    idle = ("idle", "iowait", "guest", "guest_nice")
    busy = sum(value for name, value in times.items() if name not in idle)
    own = 0.0
    for process in _family(os.getpid()):
        with suppress(psutil.Error):
            own += sum(process.cpu_times()[:4])  # user and system, and those of ended children
    return float(busy - own)
