"""The web application, built from parts so that tests can give it a small engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from sidecar import __version__, problems
from sidecar.documents.allowed_dirs import AllowedDirs
from sidecar.documents.pdf_pool import PdfPool
from sidecar.process.clock import Clock
from sidecar.process.presence import Presence
from sidecar.scheduling.encoder import Encoder
from sidecar.settings import Settings
from sidecar.web import errors, middleware
from sidecar.web.budget import Budget, BudgetMiddleware
from sidecar.web.middleware import (
    AccessLog,
    AccessLogMiddleware,
    AccessMiddleware,
    HealthMiddleware,
)
from sidecar.web.routes import PATHS, router
from sidecar.web.routes.status import answer_health
from sidecar.web.state import Service


class _App(FastAPI):
    """The framework with layers around it, its own handling of failures included."""

    def build_middleware_stack(self) -> ASGIApp:
        app = super().build_middleware_stack()
        for layer in reversed(self.state.layers):
            app = layer(app)
        return app


def create_app(
    settings: Settings,
    encoder: Encoder,
    *,
    instance: str,
    request_stop: Callable[[], None],
    access_log: AccessLog,
    budget: Budget,
    clock: Clock | None = None,
) -> FastAPI:
    """Return the application that serves `encoder`; `request_stop` is called by /shutdown."""
    app = _App(
        title="Sidecar",
        summary="Text embeddings on the machine the texts live on.",
        version=__version__,
        docs_url=None,  # its page would load scripts from the network
        redoc_url=None,
        redirect_slashes=False,
        # It looks for a provider at each request, and none is in the bundle.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    presence = Presence(settings.bundle)
    service = app.state.service = Service(
        settings=settings,
        encoder=encoder,
        allowed_dirs=AllowedDirs(settings.allow_dirs),
        pdf_pool=PdfPool(settings.limits, clock=clock, is_gone=lambda: presence.is_gone),
        presence=presence,
        instance=instance,
        request_stop=request_stop,
    )
    hosts = middleware.names(settings.host, settings.allow_hosts)
    # The outermost first.
    app.state.layers = [
        partial(AccessLogMiddleware, access_log=access_log, counts=encoder.counts, routes=PATHS),
        partial(AccessMiddleware, hosts=hosts, token=settings.token),
        partial(HealthMiddleware, answer=partial(answer_health, service)),
        partial(BudgetMiddleware, budget=budget),
    ]
    app.include_router(router)
    app.add_exception_handler(problems.Problem, errors.answer_problem)
    app.add_exception_handler(HTTPException, errors.answer_http)
    for kind in (MemoryError, RuntimeError, OSError):
        app.add_exception_handler(kind, errors.answer_memory)
    app.add_exception_handler(Exception, errors.answer_bug)
    return app
