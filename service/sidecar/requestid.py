"""Which request is being served: its id stands in the log and in the answer."""

from __future__ import annotations

from contextvars import ContextVar

CURRENT: ContextVar[str | None] = ContextVar("request", default=None)


def current() -> str | None:
    """Return the id of the request that is being served, None outside of any."""
    return CURRENT.get()
