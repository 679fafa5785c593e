"""What requests need of the bundle's files later, loaded while they are there.

An updater may move, replace or delete the bundle at any time after the start.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import encodings
import importlib
import logging
import pkgutil

from fastapi import routing
from starlette.routing import Route

from sidecar.documents.encodings import load_ahead
from sidecar.documents.pdf_pool import PdfPool
from sidecar.process import limits
from sidecar.web.routes import PARTS

# Left to the first requests, which a start is measured by.
WAIT_S = 1.0
LOADED = "everything that requests need is loaded"
# Some 30 MB are taken, the process that reads PDFs included, and 23 more with the first text whose
# encoding is detected. Where a container or a limit leaves little, requests have it, and load what
# they need when they come.
LEAST_LEFT = 192 << 20
MODULES = ("sidecar.web.prometheus",)
log = logging.getLogger("sidecar.preload")


async def load(pdf_pool: PdfPool) -> None:
    """Load it on a thread, then start a process that reads PDFs, where memory allows."""
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
    # FastAPI reads a route's source at its first request, for messages to developers.
    look = getattr(routing, "_extract_endpoint_context", None)
    for part in PARTS:
        for route in part.routes:
            if look is not None and isinstance(route, Route):
                look(route.endpoint)
