"""The id of the request that is being answered: in its answer, and beside every line of its log."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

HEADER = b"x-request-id"
_SAFE = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str | None] = ContextVar("request", default=None)


def current() -> str | None:
    """Return the id of the request that this task works on, None outside of one."""
    return _current.get()


def chosen(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the client's own id if it sent one of letters, digits and `._-`, else a new one."""
    for name, value in headers:
        if name == HEADER and _SAFE.fullmatch(value):
            return value.decode("ascii")
    return os.urandom(8).hex()


@contextlib.contextmanager
def using(identity: str) -> Iterator[None]:
    """Let `identity` be the current one; tasks and threads begun meanwhile keep it."""
    token = _current.set(identity)
    try:
        yield
    finally:
        _current.reset(token)
