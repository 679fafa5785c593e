"""The five routes of the v1 API and what was added beside them, and the state that they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from sidecar.documents.allowed_dirs import AllowedDirs
from sidecar.documents.pdf_pool import PdfPool
from sidecar.models.loader import Loaded
from sidecar.process.presence import Presence
from sidecar.scheduling.encoder import Encoder
from sidecar.scheduling.served import ServedModel
from sidecar.scheduling.tokenizing import Disconnected
from sidecar.settings import Settings
from sidecar.web import responses

R = TypeVar("R")
# A drive that does not answer keeps the thread that asks it: these are for nothing else.
_drives = ThreadPoolExecutor(max_workers=8, thread_name_prefix="drives")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Kept in `app.state.service`."""

    settings: Settings
    encoder: Encoder
    allowed_dirs: AllowedDirs
    instance: str
    request_stop: Callable[[], None]
    pdf_pool: PdfPool
    presence: Presence


class RequestRoute(APIRoute):
    """A route whose endpoint takes the request, and nothing that FastAPI would take out of it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint, which FastAPI calls with the request."""
        return self.endpoint


def service_of(request: Request) -> Service:
    """Return the service that the request's application was made with."""
    service: Service = request.app.state.service
    return service


@asynccontextmanager
async def in_use(
    request: Request, model: ServedModel, *, keep_s: float | None = None
) -> AsyncGenerator[tuple[Loaded, Disconnected]]:
    """Yield `model`, in memory meanwhile, and what is done once the client has left.

    To be used when the body has been read. `keep_s` is as `Encoder.using` has it.
    """
    with responses.departure(request) as disconnected:
        use = service_of(request).encoder.using(model, keep_s=keep_s, disconnected=disconnected)
        async with use as loaded:
            yield loaded, disconnected


async def from_drive(request: Request, work: Callable[[], R]) -> R:
    """Return what `work` returns, which asks drives; to be used when the body has been read.

    Raises Problem as `Encoder.while_wanted`.
    """
    asked = asyncio.get_running_loop().run_in_executor(_drives, copy_context().run, work)
    with responses.departure(request) as disconnected:
        return await service_of(request).encoder.while_wanted(asked, disconnected=disconnected)
