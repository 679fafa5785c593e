"""The web application, built from parts so that tests can give it a small engine."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import encodings
import importlib
import logging
import pkgutil
from collections.abc import Callable
from functools import partial

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from sidecar import __version__, problems
from sidecar.documents.allowed_dirs import AllowedDirs
from sidecar.documents.encodings import load_ahead
from sidecar.documents.pdf_pool import PdfPool
from sidecar.process import limits
from sidecar.process.clock import Clock
from sidecar.process.presence import Presence
from sidecar.scheduling.encoder import Encoder
from sidecar.settings import Settings
from sidecar.web import callers, errors, middleware
from sidecar.web.budget import Budget, BudgetMiddleware
from sidecar.web.errors import Form
from sidecar.web.middleware import AccessLog, AccessLogMiddleware, AccessMiddleware
from sidecar.web.routes import (
    Service,
    dialects,
    embedding,
    files,
    ollama,
    openai,
    page,
    status,
    tei,
)
from sidecar.web.routes.dialects import DialectMiddleware

# In the order in which a request looks for its route.
PARTS = (
    *(embedding.router, openai.router, ollama.router, tei.router),
    *(status.router, files.router, page.router),
)
DIALECTS = (openai.DIALECT, ollama.DIALECT, tei.DIALECT)
PATHS = frozenset(route.path for part in PARTS for route in part.routes if isinstance(route, Route))
# Left to the first requests, which a start is measured by.
WAIT_S = 1.0
LOADED = "everything that requests need is loaded"
# Some 30 MB are taken, the process that reads PDFs included, and 23 more with the first text whose
# encoding is detected. Where a container or a limit leaves little, requests have it, and load what
# they need when they come.
LEAST_LEFT = 192 << 20
MODULES = ("sidecar.web.prometheus",)
log = logging.getLogger("sidecar.app")


def create_app(
    settings: Settings,
    encoder: Encoder,
    *,
    instance: str,
    request_stop: Callable[[], None],
    access_log: AccessLog,
    budget: Budget,
    clock: Clock | None = None,
) -> tuple[ASGIApp, Service]:
    """Return the application that serves `encoder`; `request_stop` is called by /shutdown."""
    app = FastAPI(
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
    encoder.models.is_gone = lambda: presence.is_gone
    service = app.state.service = Service(
        settings=settings,
        encoder=encoder,
        allowed_dirs=AllowedDirs(settings.allow_dirs),
        pdf_pool=PdfPool(settings.limits, clock=clock, is_gone=lambda: presence.is_gone),
        presence=presence,
        instance=instance,
        request_stop=request_stop,
    )
    # A router that is included looks for its routes a second time, at each request.
    for part in PARTS:
        app.router.routes.extend(part.routes)
    for kind in (problems.Problem, HTTPException, MemoryError, RuntimeError, OSError):
        app.add_exception_handler(kind, errors.answer_known)
    app.add_exception_handler(Exception, errors.answer_bug)
    health = partial(status.answer_health, service)
    hosts = middleware.names(settings.host, settings.allow_hosts)
    allowed = callers.allowed(settings.allow_origins)
    # Around the framework's own handling of failures; the outermost last.
    limited = BudgetMiddleware(app, budget)
    guarded = AccessMiddleware(
        limited,
        health,
        hosts=hosts,
        token=settings.token,
        allowed=allowed,
        is_public=page.is_asked,
    )
    counted = AccessLogMiddleware(guarded, access_log, encoder.counts, PATHS, allowed)
    return DialectMiddleware(counted, DIALECTS), service


def form_of(path: str) -> Form | None:
    """Return how errors are written at `path`, None for our own form."""
    return dialects.form_of(path, DIALECTS)


async def preload(pdf_pool: PdfPool) -> None:
    """Load what requests need of the bundle's files later, while they are there.

    An updater may move, replace or delete the bundle at any time after the start. It is loaded on
    a thread; then a process that reads PDFs is started, where memory allows.
    """
    await asyncio.sleep(WAIT_S)
    for room in (limits.control_group(), limits.address_space()):
        if room is not None and room.lacks(LEAST_LEFT):
            log.info("nothing is preloaded: %d bytes of the %s are left", room.left, room.name)
            return
    try:
        await asyncio.to_thread(_load)
    except Exception:
        log.exception("preloading failed")
    await pdf_pool.start_ahead()
    log.info("%s", LOADED)


def _load() -> None:
    for name in MODULES:
        importlib.import_module(name)
    # A text file may be declared to be in any of them, or be found to be.
    for module in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(LookupError):  # those of Windows
            codecs.lookup(module.name)
    load_ahead()
    page.load_ahead()
