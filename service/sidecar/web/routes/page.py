"""The page that a browser gets at /, and the two files that it loads.

It holds no data: what it shows it asks for by the other routes, with the token where there is one.
So it is sent to browsers that show none.
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

from sidecar.web.middleware import METHODS
from sidecar.web.responses import prefers
from sidecar.web.routes import RequestRoute, ollama

router = APIRouter(route_class=RequestRoute)
FOLDER = Path(__file__).parents[1] / "page"
ROOT, HTML = "/", "text/html"
FILES = {
    ROOT: ("index.html", HTML),
    "/page/page.css": ("page.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # For no other Accept, and not for the way back, with the token that was typed into it.
    "Cache-Control": "no-store",
}


def is_asked(scope: Scope) -> bool:
    """Return whether the request is for a file of the page."""
    path = scope["path"]
    if path not in FILES or scope["method"] not in METHODS:
        return False
    return path != ROOT or prefers(Request(scope), HTML, over="text/plain")


async def send_file(request: Request) -> Response:
    """Send a file of the page; at / it is for browsers, and programs get what Ollama says."""
    if not is_asked(request.scope):
        return PlainTextResponse(ollama.RUNNING)
    name, kind = FILES[request.scope["path"]]
    body = await asyncio.to_thread(_read, name)
    return Response(body, media_type=kind, headers=HEADERS)


def load_ahead() -> None:
    """Read the files; the bundle may be gone when a browser asks for them."""
    for name, _ in FILES.values():
        _read(name)


@functools.cache
def _read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


for path in FILES:
    router.add_api_route(path, send_file, methods=[*METHODS], include_in_schema=False)
