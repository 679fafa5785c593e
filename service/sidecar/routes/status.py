"""What the service says of itself, and how it is told to stop."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sidecar import __version__, bodies, schemas
from sidecar.routes.answers import answer, problems
from sidecar.service import service_of

router = APIRouter()


@router.get(
    "/health",
    responses={
        200: {"model": schemas.HealthAnswer},
        503: {"model": schemas.HealthAnswer},
    },
)
async def health(request: Request) -> Response:
    """Say whether requests are served; answers at all times."""
    service = service_of(request)
    encoder, loaded = service.encoder, service.encoder.loaded
    status = encoder.status
    said = {
        "status": status,
        "model": loaded.snapshot.repository if loaded else None,
        "dim": loaded.engine.dim if loaded else None,
        "device": loaded.engine.device if loaded else None,
        "phase": encoder.phase,
        "instance": service.instance,
        "version": __version__,
        "degraded": loaded.degraded if loaded else None,
    }
    return answer(said, HTTPStatus.OK if status == "ok" else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/info", responses={200: {"model": schemas.InfoAnswer}, **problems(503)})
async def info(request: Request) -> Response:
    """Say what is served: the model, the engine, the limits."""
    service = service_of(request)
    loaded = service.encoder.ready()
    limits = service.settings.limits
    return answer(
        {
            "model_id": loaded.snapshot.repository,
            "dim": loaded.engine.dim,
            "device": loaded.engine.device,
            "version": __version__,
            "engine": loaded.engine.name,
            "unpacked_because": loaded.unpacked_because,
            "degraded": loaded.degraded,
            "degraded_because": loaded.degraded_because,
            "precision": loaded.engine.precision,
            "threads": service.settings.threads,
            "pooling": loaded.engine.pooling,
            "max_tokens": loaded.engine.max_tokens,
            "revision": loaded.snapshot.revision,
            "fingerprint": loaded.fingerprint(),
            "limits": {name: getattr(limits, name) for name in schemas.LimitsAnswer.model_fields},
            "plan": loaded.snapshot.plan,
        }
    )


@router.post(
    "/shutdown",
    status_code=HTTPStatus.ACCEPTED,
    responses={202: {"model": schemas.ShutdownAnswer}, **problems(415)},
)
async def shutdown(request: Request) -> Response:
    """Stop the service once its running requests are answered."""
    if bodies.is_sent(request):
        bodies.refuse_kind(request)
    service_of(request).request_stop()
    return answer({"status": "stopping"}, HTTPStatus.ACCEPTED)
