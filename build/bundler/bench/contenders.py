"""Who is measured: the baseline in a process of its own, our service, the peers that are here."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bundler.bench import baseline, load, peers, served
from bundler.errors import ModelError, SmokeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bundler.bench.client import Target
    from bundler.bench.load import Beside, Crowd
    from bundler.bench.served import Program

    Say = Callable[[str], None]


@dataclass(kw_only=True)
class Contender:
    """One that is measured, and everything that was measured of it, round by round, in seconds."""

    name: str
    kind: str
    pid: int
    target: Target | None = None
    process: baseline.Baseline | None = None
    info: dict[str, Any] = field(default_factory=dict)
    starts: list[baseline.FirstVector | served.Start | float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    requests: list[list[float]] = field(default_factory=list)
    singles: list[list[float]] = field(default_factory=list)
    bulk: list[float] = field(default_factory=list)
    crowds: list[Crowd] = field(default_factory=list)
    beside: list[Beside] = field(default_factory=list)
    private: int | None = None
    peak: int | None = None

    def in_turn(self, batches: Sequence[Sequence[str]]) -> list[float]:
        """Return the seconds of each batch, one after the other."""
        if self.target is not None:
            return load.in_turn(self.target, batches)
        return self._process().in_turn(batches)

    def all_at_once(self, texts: Sequence[str]) -> float:
        """Return the seconds for all texts: one call, or as few requests as the server takes."""
        if self.target is not None:
            return load.in_turn(self.target, [texts])[0]
        return self._process().whole(texts)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a row for each text."""
        if self.target is None:
            return self._process().vectors(texts)
        with self.target.connect() as connection:
            answers = [
                load.require(self.target, connection.embed(part)).body
                for part in load.cut(texts, self.target.largest)
            ]
        return np.concatenate([self.target.vectors(body) for body in answers])

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text our service's model reads."""
        if self.target is None:
            raise AssertionError
        most, found = int(self.info["max_tokens"]), []
        with self.target.connect() as connection:
            for part in load.cut(texts, self.target.largest):
                answer = load.require(self.target, connection.embed(part))
                found += [min(int(count), most) for count in json.loads(answer.body)["tokens"]]
        return found

    def _process(self) -> baseline.Baseline:
        if self.process is None:
            raise AssertionError
        return self.process


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A way to start our service: what it is called, and the options that make it so."""

    name: str
    options: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Field:
    """All that are measured, while they run, and those that are not, with the reason."""

    contenders: list[Contender]
    absent: list[peers.Absent]
    ends: ExitStack

    def close(self) -> None:
        """End everybody."""
        self.ends.close()

    @property
    def ours(self) -> Contender:
        """Our service, in the first of its variants."""
        return next(each for each in self.contenders if each.kind == "sidecar")

    @property
    def baseline(self) -> Contender | None:
        """The baseline, if this environment has it."""
        return next((each for each in self.contenders if each.kind == "baseline"), None)

    def served(self) -> list[Contender]:
        """Return those that are spoken to over HTTP."""
        return [each for each in self.contenders if each.target is not None]


def open_field(  # noqa: PLR0913 - one entrance, called once
    program: Program,
    variants: Sequence[Variant],
    others: Sequence[peers.Peer],
    *,
    snapshot: Path,
    first: str,
    rounds: int,
    folder: Path,
    say: Say,
) -> Field:
    """Start everybody `rounds` times, turn by turn, and leave them running after the last.

    A variant beside the first, or a peer, that does not start is absent, with what it said.
    Raises SmokeError if our service does not start at all.
    """
    ends = ExitStack()
    field_ = Field(contenders=[], absent=[], ends=ends)
    try:
        if not baseline.is_here():
            why = "this environment has no sentence-transformers"
            field_.absent.append(peers.Absent(name=baseline.NAME, why=why))
        for number in range(rounds):
            is_last = number == rounds - 1
            say(f"starting, round {number + 1} of {rounds}")
            if baseline.is_here():
                _start_baseline(field_, program.threads, snapshot, first, is_last=is_last)
            for variant in variants:
                _start_ours(field_, program, variant, first, is_last=is_last)
        for peer in others:
            _start_peer(field_, peer, program.threads, folder)
    except BaseException:
        ends.close()
        raise
    return field_


def _entry(field_: Field, name: str, kind: str) -> Contender:
    for each in field_.contenders:
        if each.name == name:
            return each
    field_.contenders.append(Contender(name=name, kind=kind, pid=0))
    return field_.contenders[-1]


def _start_baseline(
    field_: Field, threads: int, snapshot: Path, first: str, *, is_last: bool
) -> None:
    if any(each.name == baseline.NAME for each in field_.absent):
        return
    process = baseline.Baseline(threads=threads)
    entry = _entry(field_, baseline.NAME, "baseline")
    try:
        entry.starts.append(process.load(snapshot, first))
    except ModelError as error:
        process.close()
        field_.contenders.remove(entry)
        field_.absent.append(peers.Absent(name=entry.name, why=f"{error.what}: {error.why}"))
        return
    if is_last:
        entry.process, entry.pid = process, process.pid
        entry.info = process.facts
        field_.ends.callback(process.close)
    else:
        process.close()


def _start_ours(
    field_: Field, program: Program, variant: Variant, first: str, *, is_last: bool
) -> None:
    if any(each.name == variant.name for each in field_.absent):
        return
    is_first = not any(each.kind == "sidecar" for each in field_.contenders)
    try:
        running = served.start(program, first, options=variant.options)
    except SmokeError as error:
        entries = [each for each in field_.contenders if each.name == variant.name]
        if is_first or (entries and field_.ours is entries[0]):
            raise
        field_.absent.append(peers.Absent(name=variant.name, why=error.why))
        return
    entry = _entry(field_, variant.name, "sidecar")
    entry.starts.append(running.start)
    if is_last:
        entry.target, entry.pid, entry.info = running.target, running.pid, running.info
        field_.ends.callback(running.service.stop)
    else:
        running.service.stop()


def _start_peer(field_: Field, peer: peers.Peer, threads: int, folder: Path) -> None:
    try:
        service, target, seconds = peers.start(peer, threads=threads, folder=folder)
    except (SmokeError, OSError) as error:
        why = error.why if isinstance(error, SmokeError) else str(error)
        field_.absent.append(peers.Absent(name=peer.name, why=why))
        return
    entry = _entry(field_, peer.name, "peer")
    entry.starts.append(seconds)
    entry.target, entry.pid = target, service.process.pid
    field_.ends.callback(service.stop)
