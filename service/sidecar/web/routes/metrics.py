"""The numbers of the run, for Prometheus."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sidecar.web.state import service_of

router = APIRouter()


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return the metrics since the start, in Prometheus' text format."""
    service = service_of(request)

    def render() -> Response:
        from sidecar.web import prometheus  # noqa: PLC0415 (not before somebody asks)

        return Response(prometheus.render(service), media_type=prometheus.CONTENT_TYPE)

    return await asyncio.to_thread(render)
