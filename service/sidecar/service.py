"""What the routes work with; one per application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from sidecar.encoder import Encoder
from sidecar.roots import Roots
from sidecar.settings import Settings

DOCUMENT_READERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the routes work with; one per app, in `app.state.service`."""

    settings: Settings
    encoder: Encoder
    roots: Roots
    instance: str
    request_stop: Callable[[], None]
    readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DOCUMENT_READERS))


def service_of(request: Request) -> Service:
    """Return the service that the request's application was made with."""
    service: Service = request.app.state.service
    return service
