"""What clients do to a server: one after the other, many at once, one beside a bulk client."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.errors import SmokeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bundler.bench.client import Answer, Connection, Target

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Many clients at once: seconds in all, and those of each request."""

    texts: int
    seconds: float
    latencies: tuple[float, ...]
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One text at a time, with the server idle and with a bulk client keeping it busy."""

    idle: tuple[float, ...]
    busy: tuple[float, ...]
    bulk_texts: int
    bulk_seconds: float
    failures: int


def in_turn(target: Target, batches: Sequence[Sequence[str]]) -> list[float]:
    """Return the seconds of each request, sent by one client one after the other.

    Raises SmokeError if one is not answered with vectors: half a measurement is none.
    """
    seconds = []
    with target.connect() as connection:
        for texts in batches:
            parts = [connection.embed(part) for part in cut(texts, target.largest)]
            for answer in parts:
                require(target, answer)
            seconds.append(sum(answer.seconds for answer in parts))
    return seconds


def crowd(target: Target, texts: Sequence[str], *, clients: int, size: int = 1) -> Crowd:
    """Let `clients` send requests of `size` texts, each its next one when the last is answered."""
    batches = cut(texts, size)
    shares = [batches[number::clients] for number in range(min(clients, len(batches)))]
    gate = threading.Barrier(len(shares) + 1)

    def client(share: list[list[str]]) -> list[Answer]:
        with target.connect() as connection:
            gate.wait()
            return [connection.embed(batch) for batch in share]

    with ThreadPoolExecutor(len(shares)) as pool:
        waiting = [pool.submit(client, share) for share in shares]
        gate.wait()
        started = time.perf_counter()
        answers = [answer for future in waiting for answer in future.result()]
        seconds = time.perf_counter() - started
    return Crowd(
        texts=len(texts),
        seconds=seconds,
        latencies=tuple(answer.seconds for answer in answers if answer.is_good),
        failures=sum(not answer.is_good for answer in answers),
    )


def beside(
    target: Target, singles: Sequence[str], bulk: Sequence[str], *, pause_s: float
) -> Beside:
    """Send `singles` with pauses, first alone, then while another client sends `bulk` on and on.

    Each half ends after PATIENCE_S, with what was answered: a server that lets single texts wait
    for every bulk request before them would take an hour.
    """
    is_over = threading.Event()
    is_under_way = threading.Event()
    sent: list[Answer] = []

    def saturate() -> None:
        body = target.body(bulk)
        with target.connect() as connection:
            while not is_over.is_set():
                is_under_way.set()
                sent.append(connection.post(body))
                if not sent[-1].is_good:
                    return

    with target.connect() as connection:
        idle = _paced(connection, singles, pause_s)
        thread = threading.Thread(target=saturate)
        started = time.perf_counter()
        thread.start()
        is_under_way.wait()
        busy = _paced(connection, singles, pause_s)
        is_over.set()
        thread.join()
        seconds = time.perf_counter() - started
    good = [answer for answer in sent if answer.is_good]
    answers = [*idle, *busy]
    return Beside(
        idle=tuple(answer.seconds for answer in idle if answer.is_good),
        busy=tuple(answer.seconds for answer in busy if answer.is_good),
        bulk_texts=len(bulk) * len(good),
        bulk_seconds=seconds,
        failures=sum(not answer.is_good for answer in (*answers, *sent)),
    )


def cut(texts: Sequence[str], size: int) -> list[list[str]]:
    """Return `texts` in lists of at most `size`."""
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]


def require(target: Target, answer: Answer) -> Answer:
    """Return `answer` if it holds vectors. Raises SmokeError."""
    if not answer.is_good:
        said = answer.body[:200].decode(errors="replace")
        raise SmokeError(
            f"{target.name} did not answer a request of the measurement",
            why=f"status {answer.status} {said}" if answer.status else "the connection was lost",
        )
    return answer


def _paced(connection: Connection, texts: Sequence[str], pause_s: float) -> list[Answer]:
    answers: list[Answer] = []
    until = time.perf_counter() + PATIENCE_S
    for text in texts:
        if answers and time.perf_counter() > until:
            break
        time.sleep(pause_s)
        answers.append(connection.embed([text]))
    return answers
