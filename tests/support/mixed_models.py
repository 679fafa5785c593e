"""Many clients that ask one service for the vectors of several models, by every route at once."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import numpy as np

from tests.support.clients import Client, worst_cosine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.clients import Rows

ROUTES = ("/embed", "/v1/embeddings", "/api/embed")
TEXTS = 3
MIN_COSINE = 0.9999
TIMEOUT_S = 120
OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is right for one model, by a name that a request may have for it."""

    name: str
    repository: str
    fingerprint: str
    texts: tuple[str, ...]
    rows: Rows


@dataclass(kw_only=True)
class Mix:
    """What the clients of the service on `port` were answered; `wrong` says what should not be."""

    port: int
    truths: Sequence[Truth]
    right: int = 0
    wrong: list[str] = field(default_factory=list)

    def run(self, clients: int, rounds: int, *, only: Sequence[int] = (), **fields: object) -> None:
        """Let so many clients send so many requests each, of all models or `only` of some."""
        asyncio.run(self._run(clients, rounds, only or range(len(self.truths)), fields))

    async def _run(
        self, clients: int, rounds: int, models: Sequence[int], fields: dict[str, object]
    ) -> None:
        limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            timeout=TIMEOUT_S,
            limits=limits,
            trust_env=False,
        ) as http:

            async def client(number: int) -> None:
                for turn in range(rounds):
                    truth = self.truths[models[(number + turn) % len(models)]]
                    route = ROUTES[(number // len(models) + turn) % len(ROUTES)]
                    await self._ask(http, truth, route, number + turn, fields)

            await asyncio.gather(*[client(number) for number in range(clients)])

    async def _ask(
        self,
        http: httpx.AsyncClient,
        truth: Truth,
        route: str,
        number: int,
        fields: dict[str, object],
    ) -> None:
        chosen = [(number * 5 + step) % len(truth.texts) for step in range(TEXTS)]
        key = "texts" if route == "/embed" else "input"
        body = {key: [truth.texts[at] for at in chosen], "model": truth.name, **fields}
        try:
            answer = await http.post(route, json=body)
        except httpx.HTTPError as error:
            self.wrong.append(f"{route} of {truth.name}: {type(error).__name__}")
            return
        if answer.status_code != OK:
            self.wrong.append(f"{route} of {truth.name}: {answer.status_code} {answer.text}")
            return
        found = answer.json()
        headers = answer.headers
        print_ = headers.get("x-sidecar-fingerprint", found.get("fingerprint"))
        model = headers.get("x-sidecar-model", found["model"])
        rows = np.asarray(_rows(route, found), dtype=np.float32)
        if (model, print_) != (truth.repository, truth.fingerprint):
            self.wrong.append(f"{route} of {truth.name}: it is of {model}, {print_}")
        elif rows.shape != (TEXTS, truth.rows.shape[1]):
            self.wrong.append(f"{route} of {truth.name}: {rows.shape}")
        elif worst_cosine(rows, truth.rows[chosen]) < MIN_COSINE:
            self.wrong.append(f"{route} of {truth.name}: vectors of something else")
        else:
            self.right += 1


def _rows(route: str, found: Any) -> Any:
    if route == "/v1/embeddings":
        return [one["embedding"] for one in found["data"]]
    return found["vectors" if route == "/embed" else "embeddings"]


def phases(port: int) -> dict[str, str]:
    """Return the phase of each model by its repository."""
    found = Client(port=port).ask("/health").json()
    return {one["model"]: one["phase"] for one in found["models"]}


def counted(port: int, number: str) -> dict[str, int]:
    """Return a number of each model, `loads` or `unloads`, by its repository."""
    text = Client(port=port).ask("/metrics").body.decode()
    line = re.compile(rf'^sidecar_model_{number}_total{{model="(.+)"}} ([0-9.]+)$', re.MULTILINE)
    return {model: int(float(value)) for model, value in line.findall(text)}
