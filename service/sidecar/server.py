"""One run of the service: serve at once, load beside it, stop within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import os
import socket
import uuid
from asyncio import constants
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

from sidecar import __version__
from sidecar.errors import ServiceError
from sidecar.models.loader import Loaded, load
from sidecar.process import diagnosis, system_limits
from sidecar.process.clock import Clock
from sidecar.process.listener import BACKLOG
from sidecar.scheduling.encoder import Encoder
from sidecar.web import http_protocol, preload
from sidecar.web.app import create_app
from sidecar.web.budget import Budget
from sidecar.web.middleware import AccessLog
from sidecar.web.slow_readers import SlowReaders

if TYPE_CHECKING:
    from sidecar.process.signals import Stop
    from sidecar.process.stdio import EventWriter
    from sidecar.settings import Settings

NOT_ACCEPTED = "socket.accept() out of system resource"  # as the loop's own handler is told it
log = logging.getLogger("sidecar")


class _Server(uvicorn.Server):
    """A server that leaves signals to us, loads the model once it listens, and drains."""

    def __init__(self, config: uvicorn.Config, run: _Run) -> None:
        super().__init__(config)
        self._run = run

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers alone: uvicorn would raise the signal again after a clean stop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(BACKLOG)  # uvicorn gave the system's queue the length of one lot
        self._run.begin()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._run.drain()
        await super().shutdown(sockets)


class _Run:
    """The state of one run: what is served, and how it ended."""

    def __init__(
        self, settings: Settings, sock: socket.socket, events: EventWriter, clock: Clock
    ) -> None:
        self.instance = settings.instance or uuid.uuid4().hex
        self.failure: BaseException | None = None
        self.stop: Callable[[], None] = lambda: None
        self.insist: Callable[[], None] = lambda: None
        self.prepare: Callable[[], Coroutine[Any, Any, None]] | None = None  # run once ready
        self._settings = settings
        self._events = events
        self._clock = clock
        self._address = sock.getsockname()
        self._loading: asyncio.Task[None] | None = None
        self._told = -math.inf  # when it was last said that no connection could be accepted
        self.encoder = Encoder(
            functools.partial(load, settings, events), limits=settings.limits, now=clock.time
        )

    def begin(self) -> None:
        """Load the model while /health already answers."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._tell)
        self._clock.run()
        self._loading = loop.create_task(self._load())

    def drain(self) -> None:
        """Refuse new requests, and give up the running ones when their time is over.

        uvicorn's own time for that would count what was slept through, so it has none.
        """
        self.encoder.refuse_new()
        self._clock.after(self._settings.drain_s, self.encoder.abandon)
        self._clock.after(math.ceil(self._settings.drain_s), self.insist)
        if self._loading is not None:
            self._loading.cancel()

    def _tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what the loop met; once a second where a limit lets no connection in.

        The loop tries each of those that wait, and again after a second, the server's end or not.
        """
        error = context.get("exception")
        if context["message"] != NOT_ACCEPTED:
            is_over = self.encoder.is_stopping and "_start_serving" in context["message"]
            if not (is_over and isinstance(error, ValueError)):
                loop.default_exception_handler(context)
        elif loop.time() - self._told >= constants.ACCEPT_RETRY_DELAY:
            self._told = loop.time()
            limit = system_limits.named(error)
            why = error if limit is None else f"{limit}; {limit.remedy}"
            log.error("connections wait to be accepted: %s", why)

    async def _load(self) -> None:
        try:
            loaded = await self.encoder.start()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 (the main thread raises it again)
            self.failure = error
            self.stop()
        else:
            self._announce(loaded)
            if self.prepare is not None:
                await self.prepare()

    def _announce(self, loaded: Loaded) -> None:
        name = loaded.snapshot.repository
        self._events.write_event("model_loaded", {"model": name, "dimensions": loaded.engine.dim})
        host, port = self._address[:2]
        log.info("ready on %s port %d, %s", host, port, loaded.engine.device)
        self._events.write_event(
            "ready",
            {
                "instance": self.instance,
                "pid": os.getpid(),
                "host": host,
                "port": port,
                "version": __version__,
                "degraded": loaded.degraded,
            },
        )


def serve(settings: Settings, *, sock: socket.socket, stop: Stop, events: EventWriter) -> int:
    """Serve on `sock` until `stop` is requested, and return 0.

    A running request is answered or, after the settings' `drain_s`, refused with 503.
    Raises ServiceError if the model cannot be served.
    """
    clock = Clock()
    run = _Run(settings, sock, events, clock)
    access_log = AccessLog()
    senders = SlowReaders(settings.bounds, run.encoder.counts, clock)
    app = create_app(
        settings,
        run.encoder,
        instance=run.instance,
        request_stop=stop.request,
        access_log=access_log,
        budget=Budget(
            settings.limits.max_held_bytes, unsent=senders.unsent, freed=run.encoder.freed
        ),
        clock=clock,
    )
    config = uvicorn.Config(
        app,
        http=http_protocol.protocol(
            settings.bounds, access_log, run.encoder.counts, clock, senders
        ),
        backlog=http_protocol.ACCEPTS_PER_TURN,
        ws="none",
        loop="asyncio",
        lifespan="off",
        workers=1,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    server = _Server(config, run)

    def ask() -> None:
        server.should_exit = True

    def insist() -> None:
        server.force_exit = True

    run.stop, run.insist = ask, insist
    run.prepare = functools.partial(preload.load, app.state.service.pdf_pool)
    stop.on_request(ask)
    server.run(sockets=[sock])
    run.encoder.close(wait=False)
    app.state.service.pdf_pool.close()
    if isinstance(run.failure, ServiceError) and not stop.is_requested:
        raise run.failure
    if run.failure is not None and not stop.is_requested:
        failure = diagnosis.of_system(run.failure)
        if failure is not None:
            raise failure from run.failure
        log.error("loading failed", exc_info=run.failure)
        what = "the service failed while it loaded the model"
        raise ServiceError(what, why=type(run.failure).__name__) from run.failure
    return 0
