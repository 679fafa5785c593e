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
from collections.abc import Iterator
from typing import Any

import uvicorn

from sidecar import __version__
from sidecar.errors import ServiceError
from sidecar.models.loader import candidates, load
from sidecar.models.memory_needs import needed_bytes
from sidecar.process import diagnosis, limits
from sidecar.process.clock import Clock
from sidecar.process.listener import BACKLOG
from sidecar.process.signals import Stop
from sidecar.process.stdio import EventWriter
from sidecar.scheduling.encoder import Encoder
from sidecar.scheduling.served import Residence
from sidecar.settings import Settings
from sidecar.web import callers
from sidecar.web.app import create_app, form_of, preload
from sidecar.web.budget import Budget
from sidecar.web.http_protocol import ACCEPTS_PER_TURN, Connections
from sidecar.web.middleware import AccessLog
from sidecar.web.routes import Service

NOT_ACCEPTED = "socket.accept() out of system resource"  # as the loop's own handler is told it
log = logging.getLogger("sidecar")


class _Server(uvicorn.Server):
    """One run: it leaves signals to us, loads the model once it listens, and drains."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        sock: socket.socket,
        events: EventWriter,
        clock: Clock,
    ) -> None:
        super().__init__(config)
        self.failure: BaseException | None = None
        self._service = service
        self._encoder = service.encoder
        self._sock = sock
        self._events = events
        self._clock = clock
        self._loading: asyncio.Task[None] | None = None
        self._told = -math.inf  # when it was last said that no connection could be accepted

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers alone: uvicorn would raise the signal again after a clean stop."""
        yield

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and load the model while /health already answers."""
        await super().startup(sockets)
        self._sock.listen(BACKLOG)  # uvicorn gave the system's queue the length of one lot
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._tell)
        self._clock.run()
        self._loading = loop.create_task(self._load())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new requests, and give up the running ones when their time is over.

        uvicorn's own time for that would count what was slept through, so it has none.
        """
        drain_s = self._service.settings.drain_s
        self._encoder.refuse_new()
        self._clock.after(drain_s, self._encoder.abandon)
        self._clock.after(math.ceil(drain_s), self._insist)
        if self._loading is not None:
            self._loading.cancel()
        await super().shutdown(sockets)

    def _insist(self) -> None:
        self.force_exit = True

    def _tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what the loop met; once a second where a limit lets no connection in.

        The loop tries each of those that wait, and again after a second, the server's end or not.
        """
        error = context.get("exception")
        if context["message"] != NOT_ACCEPTED:
            is_over = self._encoder.is_stopping and "_start_serving" in context["message"]
            if not (is_over and isinstance(error, ValueError)):
                loop.default_exception_handler(context)
        elif loop.time() - self._told >= constants.ACCEPT_RETRY_DELAY:
            self._told = loop.time()
            limit = limits.named(error)
            why = error if limit is None else f"{limit}; {limit.remedy}"
            log.error("connections wait to be accepted: %s", why)

    async def _load(self) -> None:
        try:
            loaded = await self._encoder.start()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 (the main thread raises it again)
            self.failure = error
            self.stop()
            return
        name, engine = loaded.snapshot.repository, loaded.engine
        host, port = self._sock.getsockname()[:2]
        self._events.write_event("model_loaded", {"model": name, "dimensions": engine.dim})
        log.info("ready on %s port %d, %s", host, port, engine.device)
        ready = {"instance": self._service.instance, "pid": os.getpid(), "host": host, "port": port}
        ready |= {"version": __version__, "degraded": loaded.degraded}
        self._events.write_event("ready", ready)
        await preload(self._service.pdf_pool)


def serve(settings: Settings, *, sock: socket.socket, stop: Stop, events: EventWriter) -> int:
    """Serve on `sock` until `stop` is requested, and return 0.

    A running request is answered or, after the settings' `drain_s`, refused with 503.
    Raises ServiceError if a model is not here, before any is loaded, and if the first cannot be
    served.
    """
    clock, access_log = Clock(), AccessLog()
    encoder = Encoder(
        functools.partial(load, settings, events),
        limits=settings.limits,
        now=clock.time,
        after=clock.after,
        residence=Residence(
            models=candidates(settings),
            needs=functools.partial(needed_bytes, settings),
            max_bytes=settings.max_memory_bytes,
            idle_s=settings.idle_unload_s,
        ),
    )
    connections = Connections(
        settings.bounds,
        access_log,
        encoder.counts,
        clock,
        form_of=form_of,
        allowed=callers.allowed(settings.allow_origins),
    )
    app, service = create_app(
        settings,
        encoder,
        instance=settings.instance or uuid.uuid4().hex,
        request_stop=stop.request,
        access_log=access_log,
        budget=Budget(
            settings.limits.max_held_bytes, unsent=connections.unsent, freed=encoder.freed
        ),
        clock=clock,
    )
    config = uvicorn.Config(
        app,
        http=connections.protocol(),
        backlog=ACCEPTS_PER_TURN,
        ws="none",
        loop="asyncio",
        lifespan="off",
        workers=1,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    server = _Server(config, service, sock, events, clock)
    stop.on_request(server.stop)
    server.run(sockets=[sock])
    encoder.close(wait=False)
    service.pdf_pool.close()
    if server.failure is None or stop.is_requested:
        return 0
    if isinstance(server.failure, ServiceError) or diagnosis.of_system(server.failure):
        raise server.failure  # which is told as what it is of the system
    log.error("loading failed", exc_info=server.failure)
    what = "the service failed while it loaded the model"
    raise ServiceError(what, why=type(server.failure).__name__) from server.failure
