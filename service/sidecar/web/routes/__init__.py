"""The five routes of the v1 API and what was added beside them, and the state that they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from sidecar.documents.allowed_dirs import AllowedDirs
from sidecar.documents.pdf_pool import PdfPool
from sidecar.process.presence import Presence
from sidecar.scheduling.encoder import Encoder
from sidecar.settings import Settings


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


def service_of(request: Request) -> Service:
    """Return the service that the request's application was made with."""
    service: Service = request.app.state.service
    return service
