"""What ends a wait before its time: the client leaves, or the service gives its requests up."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from sidecar.problems import client_gone, stopping

R = TypeVar("R")
Disconnected = asyncio.Future[None]  # done when the client has left


class Cancellation:
    """Whether the running requests are given up; for one event loop."""

    def __init__(self) -> None:
        """Nothing is given up."""
        self._future: asyncio.Future[None] | None = None

    @property
    def is_done(self) -> bool:
        """Whether requests were given up."""
        return self._made().done()

    def abandon(self) -> None:
        """Give up the running requests, and those to come."""
        if not self._made().done():
            self._made().set_result(None)

    async def unless_left(self, future: asyncio.Future[R], disconnected: Disconnected | None) -> R:
        """Return the future's result.

        Raises Problem: 499 when `disconnected` is done, 503 if requests are abandoned.
        """
        waited: set[asyncio.Future[Any]] = {future, self._made()}
        if disconnected is not None:
            waited.add(disconnected)
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise client_gone() if disconnected is not None and disconnected.done() else stopping()

    def _made(self) -> asyncio.Future[None]:
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future
