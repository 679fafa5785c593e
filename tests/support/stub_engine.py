"""An engine of words without weights, and an app around it: the whole API in milliseconds."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import numpy as np

from sidecar.engines import Tokens
from sidecar.models.loader import Loaded
from sidecar.models.prompts import Prompts
from sidecar.models.snapshot import Snapshot
from sidecar.scheduling.encoder import Encoder
from sidecar.settings import Settings
from sidecar.web.app import create_app
from sidecar.web.budget import Budget
from sidecar.web.middleware import AccessLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sidecar.engines import Vectors, Vocabulary
    from sidecar.scheduling.served import Residence
    from sidecar.settings import Precision

SNAPSHOT = Snapshot(repository="stub/words", revision="0" * 40, path=Path(), plan="a plan")
PROMPTS = Prompts(texts={"query": "find ", "document": "keep this "})
START, END = 1, 2


class StubVocabulary:
    """The words that were read, by their numbers."""

    around = ((START,), (END,))

    def __init__(self) -> None:
        self.known = {START: "<s>", END: "</s>"}

    def read(self, text: str) -> Iterator[list[tuple[int, int, int]]]:
        found = [(StubEngine.token(match[0]), match) for match in re.finditer(r"\S+", text)]
        self.known |= {number: match[0] for number, match in found}
        yield [(number, *match.span()) for number, match in found]

    def spell(self, number: int) -> str | None:
        return self.known.get(number)

    def decode(self, ids: Sequence[int], *, skips_special: bool) -> str:
        kept = [one for one in ids if one > END or not skips_special]
        return " ".join(self.known[one] for one in kept if one in self.known)


class StubEngine:
    """Every word is a token; a vector depends on the tokens, the pooling and nothing else.

    `calls` records what `encode` saw, `batches` how many texts each time, `threads` who called it,
    `reads` how many texts were tokenised each time.
    While `gate` is clear, `encode` waits. With `poison` among its tokens, `failure` is raised.
    """

    name = "stub"
    device = "cpu"
    precision: Precision = "float32"
    space: str = "exact"
    dim = 8
    max_tokens = 10
    special_tokens = 2
    pooling = "mean"
    pads = False
    best_tokens = 4096

    def __init__(self) -> None:
        self.vocabulary: Vocabulary | None = StubVocabulary()
        self.batches: list[int] = []
        self.calls: list[list[tuple[int, ...]]] = []
        self.poison: int | None = None
        self.failure: BaseException = ValueError("secret")
        self.threads: set[int] = set()
        self.readers: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.bad_value: float | None = None
        self.trims = 0
        self.reads: list[int] = []

    def tokenize(self, texts: Sequence[str], *, keeps_end: bool = False) -> list[Tokens]:
        self.readers.add(threading.get_ident())
        self.reads.append(len(texts))
        found = []
        for text in texts:
            words = [self.token(word) for word in text.split()]
            room = self.max_tokens - self.special_tokens
            kept = words[-room:] if keeps_end else words[:room]
            length = len(words) + self.special_tokens
            found.append(Tokens(ids=(START, *kept, END), length=length))
        return found

    @staticmethod
    def token(word: str) -> int:
        return int(hashlib.sha256(word.encode()).hexdigest()[:6], 16)

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+", text)]

    def unknown(self, text: str) -> tuple[int, int]:
        words = text.split()
        return sum(not word.isascii() for word in words), len(words)

    def encode(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        self.threads.add(threading.get_ident())
        self.batches.append(len(batch))
        self.calls.append([tuple(ids) for ids in batch])
        self.entered.set()
        self.gate.wait(timeout=30)
        if any(self.poison in ids for ids in batch):
            raise self.failure
        rows = np.stack([self._row(ids, pooling) for ids in batch])
        if normalize:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    def trim(self) -> None:
        self.trims += 1

    def _row(self, ids: Sequence[int], pooling: str) -> Vectors:
        seed = hashlib.sha256(repr((tuple(ids), pooling)).encode()).digest()
        row = np.frombuffer(seed, dtype=np.uint8)[: self.dim].astype(np.float32) - 127
        if self.bad_value is not None:
            row[0] = self.bad_value
        return row


class Served:
    """An app around a stub engine, asked without a socket, on one event loop of its own."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        engine: StubEngine | None = None,
        load: Callable[..., Loaded] | None = None,
        residence: Residence | None = None,
        is_loaded: bool = True,
    ) -> None:
        self.engine = engine or StubEngine()
        self.stops = 0
        made = self.settings = settings or Settings()
        self.encoder = Encoder(load or self._load, limits=made.limits, residence=residence)
        app, service = create_app(
            made,
            self.encoder,
            instance="an instance",
            request_stop=self._request_stop,
            access_log=AccessLog(),
            budget=Budget(made.limits.max_held_bytes),
        )
        self.workers = service.pdf_pool
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8421")
        self._runner = asyncio.Runner()
        if is_loaded:
            self.run(self.encoder.start())

    def run(self, work: Any) -> Any:
        return self._runner.run(work)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, json=json, **options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer: httpx.Response = self.run(self.client.request(method, path, **options))
        return answer

    def close(self) -> None:
        self.engine.gate.set()
        self.run(self.client.aclose())
        self.encoder.close()
        self.workers.close()
        self._runner.close()

    def _load(self, report: Callable[[Any], None]) -> Loaded:
        report("loading")
        return Loaded(engine=self.engine, snapshot=SNAPSHOT, prompts=PROMPTS)

    def _request_stop(self) -> None:
        self.stops += 1
