"""The five routes of the v1 API and what was added beside them, and the state that they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from sidecar.documents import chunking
from sidecar.documents.allowed_dirs import AllowedDirs
from sidecar.documents.chunking import Chunking, Chunks
from sidecar.documents.pdf_pool import PdfPool
from sidecar.process.presence import Presence
from sidecar.scheduling.encoder import Encoder
from sidecar.scheduling.tokenizing import Disconnected
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

    async def read(
        self, data: bytes, suffix: str, wanted: Chunking, *, disconnected: Disconnected
    ) -> Chunks:
        """Read a document and divide it.

        Ends with what it does, the process that reads a PDF included, once `disconnected` is done.
        Raises Problem.
        """
        work = chunking.read(
            data,
            suffix,
            wanted,
            encoder=self.encoder,
            pdf_pool=self.pdf_pool,
            limits=self.settings.limits,
            disconnected=disconnected,
        )
        return await self.encoder.while_wanted(work, disconnected=disconnected)


def service_of(request: Request) -> Service:
    """Return the service that the request's application was made with."""
    service: Service = request.app.state.service
    return service
