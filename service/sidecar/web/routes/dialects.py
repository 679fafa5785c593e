"""The APIs of other services on the same port: each module speaks one, over the same call.

A dialect owns paths, and writes what goes wrong on them as its clients read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic_core import PydanticCustomError
from starlette.types import ASGIApp, Receive, Scope, Send

from sidecar.models.loader import Loaded
from sidecar.scheduling.encoder import Embedded
from sidecar.web import responses
from sidecar.web.errors import FORM, Form

_SLASHES = re.compile("//+")
_RAW_SLASHES = re.compile(b"//+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The paths of one API, those below `prefixes` among them, and the form of its errors."""

    paths: frozenset[str]
    prefixes: tuple[str, ...]
    form: Form

    def owns(self, path: str) -> bool:
        """Return whether `path` is one of its own."""
        return path in self.paths or path.startswith(self.prefixes)


def form_of(path: str, dialects: Iterable[Dialect]) -> Form | None:
    """Return how errors are written at `path`, None for our own form."""
    spelled = spelled_once(path)
    return next((dialect.form for dialect in dialects if dialect.owns(spelled)), None)


def spelled_once(path: str) -> str:
    """Return `path` without what clients double or add when they join it to a base."""
    if "//" in path or path.endswith("/"):
        return _SLASHES.sub("/", path).rstrip("/") or "/"
    return path


class DialectMiddleware:
    """Spells paths in one way, and names the form that a dialect's errors have.

    Clients join a base and a path as strings, so `//` and a slash at the end are no others: a
    redirect would lose the body with some of them.
    """

    def __init__(self, app: ASGIApp, dialects: Iterable[Dialect]) -> None:
        self._app, self._dialects = app, tuple(dialects)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        path = scope["path"]
        spelled = scope["path"] = spelled_once(path)
        if spelled != path:
            raw = _RAW_SLASHES.sub(b"/", scope.get("raw_path") or path.encode())
            scope["raw_path"] = raw.rstrip(b"/") or b"/"
        form = form_of(spelled, self._dialects)
        if form is not None:
            scope[FORM] = form
        await self._app(scope, receive, send)


_TEXTS = {"type": "array", "items": {"type": "string"}}
# Of those dialects that refuse an empty list.
TEXT_OR_TEXTS = {"anyOf": [{"type": "string"}, {**_TEXTS, "minItems": 1}]}
TEXTS_OR_NONE = {"anyOf": [{"type": "string"}, _TEXTS, {"type": "null"}]}


def texts_in(value: object, *, instead: str) -> object:
    """Return the texts of a field that may have one or a list of them.

    Refuses an empty list, and token ids whatever they mean, with what to send `instead`.
    """
    items = value if isinstance(value, list) else [value]
    if not items:
        kind, what = "no_text", "at least one text is needed"
        raise PydanticCustomError(kind, what)
    if isinstance(items[0], int | list) and not isinstance(items[0], bool):
        raise PydanticCustomError("token_ids", "{instead}", {"instead": instead})
    return items


def model_header(loaded: Loaded) -> dict[str, str]:
    """Return what every dialect says of the model beside its own answer."""
    return {"X-Sidecar-Model": loaded.snapshot.repository}


def headers_of(loaded: Loaded, found: Embedded) -> dict[str, str]:
    """Return what every dialect says of vectors beside its own answer."""
    made = {**model_header(loaded), "X-Sidecar-Fingerprint": found.fingerprint}
    if found.truncated:
        made["X-Sidecar-Truncated"] = responses.indices(found.truncated)
    return made
