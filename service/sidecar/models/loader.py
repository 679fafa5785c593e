"""From settings to an engine that may serve: find, verify, load, prove. Runs off the event loop."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from sidecar.engines import Degraded, Engine, SpaceClass
from sidecar.errors import DiskError, UsageError
from sidecar.models import snapshot
from sidecar.models.selection import choose
from sidecar.models.snapshot import Report
from sidecar.process import memory
from sidecar.process.stdio import EventWriter
from sidecar.settings import Settings

LENGTH = 16


def fingerprint(
    *, repository: str, revision: str, pooling: str, normalize: bool, space: SpaceClass
) -> str:
    """Return 16 hex digits that stand for the space; the engine's name is no part of it."""
    parts = [repository, revision, pooling, normalize, space]
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


log = logging.getLogger("sidecar.loader")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that gives its reference vectors, and where it came from.

    `unpacked_because` says why the packed engine does not serve it, if it does not; `degraded` what
    serves in the place of what was meant to, if something does, and `degraded_because` why.
    """

    engine: Engine
    snapshot: snapshot.Snapshot
    unpacked_because: str | None = None
    degraded: Degraded | None = None
    degraded_because: str | None = None

    def fingerprint(self, *, pooling: str = "mean", normalize: bool = True) -> str:
        """Return the name of the space that such a request's vectors are in."""
        return fingerprint(
            repository=self.snapshot.repository,
            revision=self.snapshot.revision,
            pooling=pooling,
            normalize=normalize,
            space=self.engine.space,
        )


def find(settings: Settings, events: EventWriter, report: Report) -> snapshot.Snapshot:
    """Return the verified snapshot that `settings` ask for.

    In a bundle that is a model of the bundle. Outside of one `model` is a folder, or else a
    repository in the cache. Only if downloads are allowed are all of them tried, and the hub
    last. Raises IntegrityError, UnreachableError and UsageError.
    """
    report("verifying")
    local, known = _find_here(settings)
    if local is not None:
        events.write_event("model_cached", {"model": local.repository})
        return local
    if settings.model is None or not settings.allow_download:
        raise snapshot.missing(settings, known=known)
    report("downloading")
    try:
        from sidecar.models.download import fetch  # noqa: PLC0415 (development only, and heavy)
    except ImportError as error:
        what = "this bundle cannot download models"
        why = "it is a lean bundle, without the hub's client"
        step = "--model FOLDER, or a bundle of the profile safe"
        raise UsageError(what, why=why, next_step=step) from error
    return fetch(settings.model, settings.model_cache, events)


def _find_here(settings: Settings) -> tuple[snapshot.Snapshot | None, tuple[str, ...]]:
    """Return the snapshot if it is on this machine, and the names of the bundle's models."""
    known: tuple[str, ...] = ()
    if settings.bundle is not None:
        manifest, model = snapshot.from_bundle(settings.bundle, settings.model)
        if model is not None:
            return snapshot.verify(settings.bundle, manifest, model), known
        known = tuple(m.name for m in manifest.models)
    # A bundle serves nothing but what it vouches for.
    is_closed = settings.bundle is not None and not settings.allow_download
    if settings.model is None or is_closed:
        return None, known
    folder = Path(settings.model)
    if folder.is_dir():
        return snapshot.from_folder(folder), known
    if settings.model_cache is not None:
        return snapshot.from_cache(settings.model_cache, settings.model), known
    return None, known


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
            # torch makes this folder when it is imported, and asks for a temporary one if it is not
            # named; a machine may have none. It is there already, and nothing is compiled into it.
            "TORCHINDUCTOR_CACHE_DIR": os.path.abspath(os.sep),  # noqa: PTH100
        }
    )
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "SENTENCE_TRANSFORMERS_HOME"):
        os.environ.pop(name, None)


def yield_cores() -> None:
    """Tell the libraries, before they are loaded, to leave the cores to whoever has work for them.

    OpenMP's threads then sleep while they wait for each other. By default they spin. On a machine
    whose cores are wanted by other programs too, the spinning thread holds the core that the
    awaited one needs, and requests take ten times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # the spelling of LLVM's and Intel's
    # One thread tokenises, several times as fast as all of them encode: more would hold them up.
    os.environ.update({"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"})


def load(settings: Settings, events: EventWriter, report: Report) -> Loaded:
    """Return the engine for `settings`, once it has given the model's reference vectors.

    `report` hears each phase as it begins. Raises ServiceError.
    """
    if settings.engine == "hash":
        return _hashed()
    try:
        found = find(settings, events, report)
        snapshot.refuse_code(found.path)
    except OSError as error:
        what = "the files of the model cannot be read"
        step = "let this user read them, or install the app again"
        raise DiskError(what, why=error.strerror or "", next_step=step) from error
    yield_cores()
    if not settings.allow_download:
        go_offline()
    try:
        choice = choose(settings, found, report)
    except memory.TooLittleMemoryError:
        raise
    except Exception as error:
        if _is_memory(error):
            raise memory.too_little() from error
        raise
    return Loaded(
        engine=choice.engine,
        snapshot=found,
        unpacked_because=choice.unpacked_because,
        degraded=choice.degraded,
        degraded_because=choice.degraded_because,
    )


def _is_memory(error: BaseException | None) -> bool:
    """Return whether `error`, or one that it came of, says that memory ran out."""
    return error is not None and (memory.is_memory(error) or _is_memory(error.__cause__))


def _hashed() -> Loaded:
    """Return the engine that has no model, and is not held against one."""
    from sidecar.engines import hashed  # noqa: PLC0415 (numpy, after the port)

    log.warning("%s", hashed.BECAUSE)
    return Loaded(
        engine=hashed.HashEngine(),
        snapshot=snapshot.Snapshot(
            repository="sidecar/hash", revision=hashed.REVISION, path=Path()
        ),
        unpacked_because="--engine hash was given",
        degraded="hash",
        degraded_because=hashed.BECAUSE,
    )
