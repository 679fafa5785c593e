"""What requests need of the bundle's files later, loaded while they are there.

An updater may move, replace or delete the bundle at any time after the start.
"""

from __future__ import annotations

import asyncio
import codecs
import importlib
import logging

from fastapi import routing
from starlette.routing import Route

from sidecar.documents.documents import CODECS
from sidecar.documents.workers import Workers
from sidecar.web.routes import PARTS

# Left to the first requests, which a start is measured by.
WAIT_S = 1.0
LOADED = "all that requests need is loaded"
MODULES = ("sidecar.web.metrics",)
log = logging.getLogger("sidecar.ahead")


async def load(workers: Workers) -> None:
    """Load it on a thread, then start a process that reads PDFs. To be awaited once ready."""
    await asyncio.sleep(WAIT_S)
    try:
        await asyncio.to_thread(_load)
    except Exception:
        log.exception("something that requests need could not be loaded ahead")
    await workers.start_ahead()
    log.info("%s", LOADED)


def _load() -> None:
    for name in MODULES:
        importlib.import_module(name)
    for name in CODECS:
        codecs.lookup(name)
    # FastAPI reads a route's source at its first request, for messages to developers.
    look = getattr(routing, "_extract_endpoint_context", None)
    for part in PARTS:
        for route in part.routes:
            if look is not None and isinstance(route, Route):
                look(route.endpoint)
