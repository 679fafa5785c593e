"""From settings to an engine that may serve: find, verify, load, prove. Runs off the event loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sidecar import golden, snapshot
from sidecar.engines import Engine
from sidecar.errors import ModelError
from sidecar.protocol import Announcer
from sidecar.settings import Settings

Phase = Literal["starting", "verifying", "downloading", "importing", "loading", "checking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that gives its reference vectors, and where it came from."""

    engine: Engine
    snapshot: snapshot.Snapshot


def find(
    settings: Settings, announcer: Announcer, report: Callable[[Phase], None]
) -> snapshot.Snapshot:
    """Return the verified snapshot that `settings` ask for.

    Looks in the bundle, then at `model` as a folder, then in the cache, and fetches last and only
    if allowed. Raises IntegrityError, UnreachableError and UsageError.
    """
    report("verifying")
    known: tuple[str, ...] = ()
    if settings.bundle is not None:
        manifest, model = snapshot.from_bundle(settings.bundle, settings.model)
        if model is not None:
            return snapshot.verify(settings.bundle, manifest, model)
        known = tuple(m.name for m in manifest.models)
    if settings.model is None:
        raise snapshot.missing(None, known=known)
    folder = Path(settings.model)
    if folder.is_dir():
        return snapshot.from_folder(folder)
    if settings.model_cache is not None:
        cached = snapshot.from_cache(settings.model_cache, settings.model)
        if cached is not None:
            return cached
    if settings.allow_download:
        report("downloading")
        from sidecar.download import fetch  # noqa: PLC0415 (development only, and heavy)

        return fetch(settings.model, settings.model_cache, announcer)
    raise snapshot.missing(settings.model, known=known)


def go_offline() -> None:
    """Tell the libraries, before they are imported, that there is no network and no home.

    They read these variables at import. The cache's place can neither be read nor made, so
    nothing of the user's own cache or token is ever looked at.
    """
    nowhere = os.path.join(os.devnull, "huggingface")  # noqa: PTH118
    os.environ.update(
        {
            "HF_HOME": nowhere,
            "HF_HUB_CACHE": os.path.join(nowhere, "hub"),  # noqa: PTH118
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        }
    )
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "SENTENCE_TRANSFORMERS_HOME"):
        os.environ.pop(name, None)


def load(settings: Settings, announcer: Announcer, report: Callable[[Phase], None]) -> Loaded:
    """Return the engine for `settings`, once it has given the model's reference vectors.

    `report` hears each phase as it begins. Raises ServiceError.
    """
    found = find(settings, announcer, report)
    snapshot.refuse_code(found.path)
    announcer.announce("model_cached", {"model": found.repository})
    report("importing")
    if not settings.allow_download:
        go_offline()
    try:
        from sidecar.engines import reference  # noqa: PLC0415 (the heavy import of the service)
    except ImportError as error:
        what = "the libraries of the engine cannot be imported"
        step = "install the app again, or `pdm install` in a checkout"
        raise ModelError(what, why=f"{type(error).__name__}: {error}", next_step=step) from error
    report("loading")
    engine = reference.load(found.path, device=settings.device)
    if found.dim is not None and engine.dim != found.dim:
        what = f"the model gives {engine.dim} dimensions, the bundle says {found.dim}"
        raise ModelError(what, next_step=snapshot.REPAIR)
    report("checking")
    golden.check(engine, found.golden)
    return Loaded(engine=engine, snapshot=found)
