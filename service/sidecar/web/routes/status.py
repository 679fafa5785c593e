"""What the service says of itself, and how it is told to stop."""

from __future__ import annotations

import asyncio
import os
from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sidecar import __version__
from sidecar.scheduling.served import ServedModel
from sidecar.web import bodies, schemas
from sidecar.web.middleware import OPEN_PATH
from sidecar.web.responses import answer, problem_responses
from sidecar.web.routes import RequestRoute, Service, from_drive, service_of, tei

router = APIRouter(route_class=RequestRoute)


@router.head(OPEN_PATH, include_in_schema=False)
@router.get(
    OPEN_PATH,
    responses={200: {"model": schemas.HealthAnswer}, 503: {"model": schemas.HealthAnswer}},
)
async def health(request: Request) -> Response:
    """Return the status, at all times.

    If the service has a token, only requests with it get the fields of the model.
    """
    return answer_health(service_of(request), is_trusted=False)  # a layer answers before


def answer_health(service: Service, is_trusted: bool) -> Response:
    """Say whether requests are served, and of the model to those alone who showed the token."""
    encoder, loaded = service.encoder, service.encoder.loaded
    status = encoder.status
    said: dict[str, object] = {"status": status}
    if is_trusted:
        said |= {
            "model": loaded.snapshot.repository if loaded else None,
            "dim": loaded.engine.dim if loaded else None,
            "device": loaded.engine.device if loaded else None,
        }
    said |= {"phase": encoder.phase, "instance": service.instance, "version": __version__}
    said["bundle"] = service.presence.state
    if is_trusted:
        said["degraded"] = loaded.degraded if loaded else None
        said["models"] = [
            {
                "model": one.loaded.snapshot.repository,
                "phase": encoder.phase_of(one),
                "failure": one.failure,
            }
            for one in encoder.models.all
        ]
    return answer(said, HTTPStatus.OK if status == "ok" else HTTPStatus.SERVICE_UNAVAILABLE)


@router.head("/info", include_in_schema=False)
@router.get("/info", responses={200: {"model": schemas.InfoAnswer}, **problem_responses(503)})
async def info(request: Request) -> Response:
    """Describe the first model, the engine, the limits, and the other models."""
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
            "prompts": [*loaded.prompts.texts],
            "least_dim": loaded.snapshot.least_dim,
            "limits": {name: getattr(limits, name) for name in schemas.LimitsAnswer.model_fields},
            "sandbox": service.pdf_pool.sandbox,
            "folders": await _folders(request),
            "plan": loaded.snapshot.plan,
            **tei.info(loaded, limits),
            "models": [_told(model) for model in service.encoder.models.all],
        }
    )


def _told(model: ServedModel) -> dict[str, object]:
    """Return what is said of one of the models; null is what is not known before it is loaded."""
    loaded, engine = model.loaded, model.loaded.engine
    return {
        "model_id": loaded.snapshot.repository,
        "names": loaded.snapshot.names,
        "phase": model.phase,
        "failure": model.failure,
        "dim": engine.dim or None,
        "max_tokens": engine.max_tokens or None,
        "pooling": engine.pooling,
        "precision": engine.precision,
        "engine": engine.name or None,
        "device": engine.device or None,
        "degraded": loaded.degraded,
        "degraded_because": loaded.degraded_because,
        "revision": loaded.snapshot.revision or None,
        "fingerprint": loaded.fingerprint() if loaded.is_known else None,
        "prompts": [*loaded.prompts.texts],
        "least_dim": loaded.snapshot.least_dim,
    }


async def _folders(request: Request) -> list[dict[str, object]]:
    service = service_of(request)
    if not service.settings.allow_dirs:
        return []
    has_token = service.settings.token is not None  # and so it was shown
    return [
        {
            "number": folder.number,
            "is_there": folder.is_there,
            "path": os.fsencode(folder.path).decode(errors="replace") if has_token else None,
        }
        # A drive that does not answer lets the question wait.
        for folder in await from_drive(request, service.allowed_dirs.listed)
    ]


@router.post(
    "/shutdown",
    status_code=HTTPStatus.ACCEPTED,
    responses={202: {"model": schemas.ShutdownAnswer}, **problem_responses(415)},
)
async def shutdown(request: Request) -> Response:
    """Stop the service once its running requests are answered."""
    if bodies.is_sent(request):
        bodies.kind_of(request)
    service_of(request).request_stop()
    return answer({"status": "stopping"}, HTTPStatus.ACCEPTED)


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return the metrics since the start, in Prometheus' text format."""
    service = service_of(request)

    def render() -> Response:
        from sidecar.web import prometheus  # noqa: PLC0415 (not before somebody asks)

        made = prometheus.render(service.encoder, service.pdf_pool.counts)
        return Response(made, media_type=prometheus.CONTENT_TYPE)

    return await asyncio.to_thread(render)
