"""Encode one batch; bisect one that fails, so that all texts but those at fault are served."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sidecar.engines import Vectors
from sidecar.problems import Problem
from sidecar.process.limits import is_memory
from sidecar.scheduling.jobs import BatchItem, Job

Encode = Callable[[Sequence[Sequence[int]]], Vectors]
log = logging.getLogger("sidecar.bisection")


class NotFiniteError(ArithmeticError):
    """The engine gave a vector with an infinity or NaN in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The jobs that a batch brought to their end, well or not, and whether the engine failed."""

    ended: list[Job]
    is_clean: bool


def run(items: Sequence[BatchItem], encode: Encode, *, canary: Sequence[int]) -> Outcome:
    """Encode `items` and give their jobs the rows.

    A batch that fails is halved until the texts at fault stand alone; their jobs fail with a
    Problem, and the rest of their texts is left out. If the engine fails on `canary` too, which
    is a text it is known to encode, no text is at fault, and all jobs of the batch fail.
    """
    ended: list[Job] = []
    is_clean = True
    groups: list[Sequence[BatchItem]] = [items]
    while groups:
        group = [item for item in groups.pop() if item.job.is_open]
        if not group:
            continue
        bad, error = _encode(group, encode, ended)
        if error is None:
            continue
        if is_clean:
            is_clean = False
            log.warning("%s on %d texts in one batch", type(error).__name__, len(group))
            canary_error = _failure(canary, encode)
            if canary_error is not None:
                _fail({item.job for item in items}, _engine_fails(canary_error), ended)
                break
        if len(bad) == 1:
            job, place = bad[0]
            _fail({job}, _text_fails(job.first + place, error), ended)
        else:
            middle = len(bad) // 2
            groups += [bad[middle:], bad[:middle]]
    return Outcome(ended=ended, is_clean=is_clean)


def _encode(
    group: list[BatchItem], encode: Encode, ended: list[Job]
) -> tuple[list[BatchItem], Exception | None]:
    """Return the items that failed and why; none and None if all are served."""
    try:
        rows = encode([item.ids for item in group])
        if len(rows) != len(group):
            raise IndexError  # noqa: TRY301 (the same to us as an engine that raises)
        finite = np.asarray(np.isfinite(rows).all(axis=1)).tolist()
    except Exception as error:  # noqa: BLE001 (an engine meets everything)
        return group, error
    bad = []
    for item, row, is_finite in zip(group, rows, finite, strict=True):
        if not is_finite:
            bad.append(item)
        elif item.job.fill(item.place, row) and item.job.close():
            ended.append(item.job)
    return bad, NotFiniteError() if bad else None


def _failure(canary: Sequence[int], encode: Encode) -> Exception | None:
    try:
        is_finite = np.isfinite(encode([canary])).all()
    except Exception as error:  # noqa: BLE001
        return error
    return None if is_finite else NotFiniteError()


def _fail(jobs: set[Job], problem: Problem, ended: list[Job]) -> None:
    ended += [job for job in jobs if job.close(problem)]


def _text_fails(index: int, error: Exception) -> Problem:
    if is_memory(error):
        return _memory(f"texts.{index}: there is not enough memory to encode it")
    return Problem(
        "text-fails",
        f"texts.{index}: the model gives no vector for this text",
        why=type(error).__name__,
        next_step="leave it out, or change it; other texts are served",
    )


def _engine_fails(error: Exception) -> Problem:
    if is_memory(error):
        return _memory("there is not enough memory to encode any text")
    return Problem(
        "engine-fails",
        "the engine fails on every text",
        why=type(error).__name__,
        next_step="try again; if it fails again, restart the service",
        retry_s=5,
    )


def _memory(what: str) -> Problem:
    return Problem(
        "out-of-memory",
        what,
        next_step="send shorter texts, or give the service more memory",
        retry_s=5,
    )


def engine_died() -> Problem:
    """Return the problem of a request whose batch ended the thread that computed it."""
    return Problem(
        "engine-died",
        "the compute thread ended during this request",
        next_step="send the request again",
        retry_s=1,
    )
