"""The web application, built from parts so that tests can give it a small engine."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from sidecar import __version__, counts, guard, problems
from sidecar.encoder import Encoder
from sidecar.roots import Roots
from sidecar.routes import PATHS, router
from sidecar.service import Service
from sidecar.settings import Settings
from sidecar.workers import Workers


def create_app(
    settings: Settings,
    encoder: Encoder,
    *,
    instance: str,
    request_stop: Callable[[], None],
) -> FastAPI:
    """Return the application that serves `encoder`; `request_stop` is called by /shutdown."""
    app = FastAPI(
        title="Sidecar",
        summary="Text embeddings on the machine the texts live on.",
        version=__version__,
        docs_url=None,  # its page would load scripts from the network
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = Service(
        settings=settings,
        encoder=encoder,
        roots=Roots(settings.allow_dirs),
        workers=Workers(settings.limits),
        instance=instance,
        request_stop=request_stop,
    )
    app.include_router(router)
    app.add_middleware(guard.Guard, hosts=guard.names(settings.host, settings.allow_hosts))
    # Added last, it sees what all the others answer.
    app.add_middleware(counts.Counted, counts=encoder.counts, routes=PATHS)
    app.add_exception_handler(problems.Problem, problems.answer_problem)
    app.add_exception_handler(HTTPException, problems.answer_http)
    app.add_exception_handler(Exception, problems.answer_bug)
    return app
