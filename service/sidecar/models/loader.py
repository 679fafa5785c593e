"""From settings to an engine that may serve: find, verify, load, prove. Runs off the event loop.

The packed engine serves a model where it can, the reference engine where it must.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from sidecar.engines import Degraded, Engine, Unloaded, has_reference
from sidecar.engines.packed.architecture import (
    UnpackableError,
    qualify,
    weights_file,
)
from sidecar.engines.packed.architecture import read as read_architecture
from sidecar.errors import DiskError, ModelError, ServiceError, UsageError
from sidecar.models import golden, memory_needs, prompts, snapshot
from sidecar.models.prompts import Prompts
from sidecar.models.snapshot import (
    NOWHERE,
    REPAIR,
    UNKNOWN,
    Description,
    Report,
    Snapshot,
    describe,
)
from sidecar.problems import Problem
from sidecar.process import diagnosis, limits
from sidecar.process.cpu_features import BYTE_PRODUCT_NAMES
from sidecar.process.logs import discreet
from sidecar.process.stdio import EventWriter, Silent
from sidecar.settings import Settings

log = logging.getLogger("sidecar.loader")


class Space(NamedTuple):
    """What of a request decides which of a model's spaces its vectors are in.

    `prompt` is put before every text. `width` is how many columns of the model's vectors are kept,
    None for all; with `normalize` they are brought to length 1 afterwards.
    """

    pooling: str = "mean"
    normalize: bool = True
    prompt: str = ""
    width: int | None = None


USUAL = Space()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that gives its reference vectors, and where it came from.

    `unpacked_because` says why the packed engine does not serve it, if it does not; `degraded` what
    stands in for what no option asked to replace, if something does, and `degraded_because` why.
    """

    engine: Engine
    snapshot: Snapshot
    unpacked_because: str | None = None
    degraded: Degraded | None = None
    degraded_because: str | None = None
    description: Description = UNKNOWN
    prompts: Prompts = prompts.NONE

    @property
    def is_known(self) -> bool:
        """Whether all that the fingerprint stands for is known; a load makes it so."""
        return bool(self.snapshot.revision and self.engine.space)

    def fingerprint(self, space: Space = USUAL) -> str:
        """Return 16 hex digits that stand for the model and the space of its vectors.

        The engine's name is no part of it, and a prompt and a width only where there is one.
        """
        found = self.snapshot
        parts: list[object] = [found.repository, found.revision, space.pooling, space.normalize]
        parts.append(self.engine.space)
        if space.prompt:
            parts.append({"prompt": space.prompt})
        if space.width is not None:
            parts.append({"width": space.width, "rule": "slice, then normalise"})
        text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def width(self, dimensions: int | None) -> int | None:
        """Return the `width` of a space of so many dimensions, all of them for None.

        Raises Problem 422 for what the model's vectors may not be cut to.
        """
        full, least = self.engine.dim, self.snapshot.least_dim
        if dimensions is None or dimensions == full:
            return None
        if least is not None and least <= dimensions < full:
            return dimensions
        has = "and no other width" if least is None else f"or fewer, down to {least}"
        what = f"dimensions: the model has {full}, {has}"
        why = "" if least is not None else "it was not trained for vectors that are cut"
        raise Problem("bad-value", what, why, "leave out dimensions")


def find(settings: Settings, events: EventWriter, report: Report) -> Snapshot:
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
        why = "its profile leaves out the hub's client"
        step = "--model FOLDER, or a bundle of the profile safe"
        raise UsageError(what, why=why, next_step=step) from error
    return fetch(settings.model, settings.model_cache, events)


def _find_here(settings: Settings) -> tuple[Snapshot | None, tuple[str, ...]]:
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


def _set(variables: Mapping[str, str]) -> None:
    """Set what differs of the environment: for another model nothing, while libraries read it."""
    os.environ.update({k: v for k, v in variables.items() if os.environ.get(k) != v})


def go_offline() -> None:
    """Tell the libraries, before they are imported, that there is no network and no home.

    They read these variables at import. The cache's place can neither be read nor made, so
    nothing of the user's own cache or token is ever looked at.
    """
    nowhere = os.path.join(os.devnull, "huggingface")  # noqa: PTH118
    _set(
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
    """Tell the libraries, before they are loaded, to leave idle cores to other programs.

    OpenMP's threads then sleep while they wait for each other. By default they spin. On a machine
    whose cores are wanted by other programs too, the spinning thread holds the core that the
    awaited one needs, and requests take ten times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # the spelling of LLVM's and Intel's
    # One thread tokenises, several times as fast as all of them encode: more would hold them up.
    _set({"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"})


def load(settings: Settings, events: EventWriter, report: Report) -> Loaded:
    """Return the engine for `settings`, once it has given the model's reference vectors.

    `report` hears each phase as it begins. Raises ServiceError.
    """
    if settings.engine == "hash":
        return _hashed()
    with _readable():
        found = find(settings, events, report)
        snapshot.refuse_code(found.path)
        if settings.max_memory_bytes is not None:
            limits.require_within(
                settings.max_memory_bytes, memory_needs.needed_bytes(settings, found.path)
            )
    yield_cores()
    if not settings.allow_download:
        go_offline()
    try:
        # Now, for the files may be gone when a client asks.
        description, known = describe(found.path), prompts.read(found.path)
        return replace(choose(settings, found, report), description=description, prompts=known)
    except limits.LimitError:
        raise
    except Exception as error:
        if limits.ran_out(error):
            raise limits.too_little() from error
        raise


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Raise DiskError for files that cannot be read meanwhile."""
    try:
        yield
    except OSError as error:
        what = "the files of the model cannot be read"
        step = "let this user read them, or install the app again"
        raise DiskError(what, why=error.strerror or "", next_step=step) from error


Load = Callable[[Report], Loaded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that is served: what is known of it before it is loaded, and what loads it."""

    known: Loaded
    load: Load


def candidates(settings: Settings) -> tuple[Candidate, ...]:
    """Return the models that are served, in their order; none where none is named.

    Their files are not verified, and no parent is told of their loading. Raises UnreachableError
    for one that is not here, IntegrityError for a manifest that is damaged, and DiskError.
    """
    if settings.engine == "hash":
        known = Loaded(engine=Unloaded(), snapshot=HASHED)
        return (Candidate(known=known, load=functools.partial(load, settings, Silent())),)
    found: dict[str, Candidate] = {}
    with _readable():
        for name in _names(settings):
            own = replace(settings, model=name, more_models=())
            one = Candidate(known=_known(own), load=functools.partial(load, own, Silent()))
            found.setdefault(one.known.snapshot.repository, one)
    return tuple(found.values())


def _names(settings: Settings) -> list[str]:
    """Return the models that are served, the first first."""
    if settings.model is not None:
        return [settings.model, *settings.more_models]
    if settings.bundle is None:
        return []
    manifest = snapshot.manifest_of(settings.bundle)
    names = [model.name for model in manifest.models]
    return sorted(names, key=lambda name: name != manifest.default_model)


def _known(settings: Settings) -> Loaded:
    """Return what is known of the one model in `settings` before it is loaded."""
    engine = Unloaded(precision=settings.precision)
    if settings.precision == "float32":
        engine.space = "exact"
    if settings.bundle is not None:
        manifest, model = snapshot.from_bundle(settings.bundle, settings.model)
        if model is not None:
            engine.dim, engine.max_tokens = model.dim, model.max_tokens
            engine.pooling = model.pooling
            found = snapshot.listed(settings.bundle, manifest, model)
            return _on_disk(engine, found)
        if not settings.allow_download:
            raise snapshot.missing(settings, known=tuple(one.name for one in manifest.models))
    name = settings.model or ""
    folder = Path(name).absolute()
    is_folder = folder.is_dir()
    here = Snapshot(repository=folder.name, revision="", path=folder) if is_folder else None
    if here is None and settings.model_cache is not None:
        here = snapshot.from_cache(settings.model_cache, name)
    if here is None:
        if not settings.allow_download:
            raise snapshot.missing(settings)
        return Loaded(engine=engine, snapshot=Snapshot(repository=name, revision="", path=NOWHERE))
    try:
        made = read_architecture(here.path)
    except UnpackableError:
        return Loaded(engine=engine, snapshot=here)
    engine.dim, engine.max_tokens, engine.pooling = made.width, made.max_tokens, made.pooling
    return _on_disk(engine, here)


def _on_disk(engine: Unloaded, found: Snapshot) -> Loaded:
    """Return what the files of a model say of it; loading it says which are missing or bad."""
    description, known = UNKNOWN, prompts.NONE
    with contextlib.suppress(OSError):
        description = describe(found.path)
    with contextlib.suppress(ModelError):
        known = prompts.read(found.path)
    return Loaded(engine=engine, snapshot=found, description=description, prompts=known)


HASHED = Snapshot(repository="sidecar/hash", revision="", path=NOWHERE)


def _hashed() -> Loaded:
    """Return the engine that has no model, and is not held against one."""
    from sidecar.engines import hashed  # noqa: PLC0415 (numpy, after the port)

    log.warning("%s", hashed.BECAUSE)
    return Loaded(
        engine=hashed.HashEngine(),
        snapshot=replace(HASHED, revision=hashed.REVISION),
        unpacked_because="--engine hash was given",
        degraded="hash",
        degraded_because=hashed.BECAUSE,
    )


def choose(settings: Settings, found: Snapshot, report: Report) -> Loaded:
    """Return an engine that gives the model's vectors.

    Raises UsageError for a device that is not there and for a precision that the model does not
    have, ModelError if no engine can serve the model.
    """
    if settings.precision == "int8":
        return _quantized(settings, found, report)
    if settings.engine == "reference":
        because = "--engine reference was given"
        return Loaded(
            snapshot=found, engine=_reference(settings, found, report), unpacked_because=because
        )
    given_up: str | None = None
    if settings.device == "auto":
        engine, given_up = _accelerated(settings, found, report)
        if engine is not None:
            return Loaded(snapshot=found, engine=engine)
        device = "cpu"
    else:
        device = choose_device(settings.device)
    try:
        engine = _packed(settings, found, report, device)
        stand_in: Degraded | None = "cpu" if given_up else None
        return Loaded(snapshot=found, engine=engine, degraded=stand_in, degraded_because=given_up)
    except UnpackableError as error:
        reason = str(error)
        if not has_reference():
            what = "no engine of this bundle can run this model"
            why = f"{reason}; its profile leaves out the reference engine"
            step = "use a bundle of the profile safe, or another model"
            raise ModelError(what, why=why, next_step=step) from error
        if settings.engine == "packed":
            what = "the packed engine cannot run this model"
            raise ModelError(what, why=reason, next_step="--engine auto") from error
    except ModelError as error:
        # It could run the model but does not give its vectors here: a fault of this machine's.
        _raise_systems(error)
        if settings.engine == "packed" or not has_reference():
            raise
        reason = discreet(f"{error.what}: {error.why}")
    log.warning("the packed engine is not used: %s", reason)
    return Loaded(
        snapshot=found,
        engine=_reference(settings, found, report),
        unpacked_because=reason,
        degraded="reference",
        degraded_because=reason,
    )


def _accelerated(
    settings: Settings, found: Snapshot, report: Report
) -> tuple[Engine | None, str | None]:
    """Return the packed engine on a device that no option named, or why that one is given up.

    Neither on a machine without one, and for a model that is not the packed engine's: that has
    nothing to do with the device.
    """
    device = "torch"
    try:
        device = choose_device("auto")
        return (None if device == "cpu" else _packed(settings, found, report, device)), None
    except UnpackableError:
        return None, None
    except ModelError as error:
        _raise_systems(error)
        given_up = discreet(f"{device} is given up: {error.what}: {error.why}")
        log.warning("%s", given_up)
        return None, given_up


def _raise_systems(error: ModelError) -> None:
    """Raise what the system is to blame for: no other engine stands in for that, or needs less."""
    found = diagnosis.of_system(error)
    if found is error:
        raise error
    if found is not None:
        raise found from error


def _quantized(settings: Settings, found: Snapshot, report: Report) -> Loaded:
    """Return the one engine that has int8; nothing stands in for it.

    Its space is the same on every processor. One that does not multiply bytes makes their sums of
    floats.
    """
    what = "--precision int8 cannot be served here"
    instead = "leave out --precision"
    if found.golden is not None and found.least_int8 is None:
        why = f"the bundle has no int8 of {found.name}: it was locked without"
        raise UsageError(what, why=why, next_step=f"{instead}, or choose another --model")
    multiplies_bytes = _has_byte_products(settings)
    try:
        engine = _packed(settings, found, report, "cpu", multiplies_bytes=multiplies_bytes)
    except UnpackableError as error:
        raise ModelError(what, why=str(error), next_step=instead) from error
    if multiplies_bytes:
        return Loaded(snapshot=found, engine=engine)
    log.warning("%s", WITHOUT_BYTE_PRODUCTS)
    return Loaded(
        snapshot=found,
        engine=engine,
        degraded="float32-products",
        degraded_because=WITHOUT_BYTE_PRODUCTS,
    )


def _has_byte_products(settings: Settings) -> bool:
    """Return what the processor tells, or what ONNX Runtime's sums do where it does not tell."""
    if settings.has_byte_products is not None:
        return settings.has_byte_products
    from sidecar.engines.packed import onnx_executor  # noqa: PLC0415 (heavy)

    return not onnx_executor.clips()


def _packed(
    settings: Settings,
    found: Snapshot,
    report: Report,
    device: str,
    *,
    multiplies_bytes: bool = True,
) -> Engine:
    made = qualify(found.path, device=device, precision=settings.precision)
    if device == "cpu":
        limits.require_memory(
            memory_needs.packed_needs(
                made,
                weights_file(found.path),
                precision=settings.precision,
                multiplies_bytes=multiplies_bytes,
            )
        )
    report("importing")
    try:
        from sidecar.engines.packed import engine as packed  # noqa: PLC0415 (heavy)
    except ImportError as error:
        raise _unimportable(error) from error
    report("loading")
    try:
        engine = packed.load(
            found.path,
            device=device,
            threads=settings.threads,
            precision=settings.precision,
            multiplies_bytes=multiplies_bytes,
        )
    except (UnpackableError, ServiceError):
        raise
    except ImportError as error:
        raise _unimportable(error) from error
    except Exception as error:
        what = "the model cannot be loaded by the packed engine"
        raise ModelError(what, why=f"{type(error).__name__}: {error}", next_step=REPAIR) from error
    # TF32 keeps ten bits of what is multiplied: several times as fast, and not exact enough for
    # every model. Without reference vectors nothing tells.
    engine.executor.is_tf32 = device == "cuda" and found.golden is not None
    try:
        return _proven(engine, found, report)
    except ModelError as error:
        if not engine.executor.is_tf32:
            raise
        log.warning("products are not rounded to TF32: %s", discreet(f"{error.what}: {error.why}"))
    engine.executor.is_tf32 = False
    return _proven(engine, found, report)


def _reference(settings: Settings, found: Snapshot, report: Report) -> Engine:
    limits.require_memory(memory_needs.reference_needs(found.path))
    report("importing")
    try:
        from sidecar.engines import reference  # noqa: PLC0415 (the heaviest import there is)
    except ImportError as error:
        if not has_reference():
            what = "this bundle has no reference engine"
            why = "its profile leaves it out"
            step = "--engine auto, or a bundle of the profile safe"
            raise ModelError(what, why=why, next_step=step) from error
        raise _unimportable(error) from error
    report("loading")
    engine = reference.load(found.path, device=settings.device, threads=settings.threads)
    return _proven(engine, found, report)


def _proven(engine: Engine, found: Snapshot, report: Report) -> Engine:
    if found.dim is not None and engine.dim != found.dim:
        what = f"the model gives {engine.dim} dimensions, the bundle says {found.dim}"
        raise ModelError(what, next_step=REPAIR)
    report("checking")
    least = golden.MIN_COSINE
    if engine.precision == "int8" and found.least_int8 is not None:  # without one it must be exact
        least = found.least_int8
    try:
        golden.check(engine, found.golden, least=least)
    except ServiceError:
        raise
    except Exception as error:
        what = f"the engine {engine.name} fails on {engine.device}"
        raise ModelError(what, why=f"{type(error).__name__}: {error}", next_step=REPAIR) from error
    return engine


def _unimportable(error: ImportError) -> ModelError:
    what = "the libraries of the engine cannot be imported"
    step = "install the app again, or `pdm install` in a checkout"
    return ModelError(what, why=f"{type(error).__name__}: {error}", next_step=step)


WITHOUT_BYTE_PRODUCTS = (
    f"this processor has no instructions that add up products of bytes ({BYTE_PRODUCT_NAMES}): "
    "int8 is computed in float32, in the same vector space, and more slowly than float32 itself"
)
# torch's builds for CUDA have this library; the others do not.
_CUDA_LIBRARIES = ("libtorch_cuda.so", "torch_cuda.dll")


def choose_device(wanted: str) -> str:
    """Return the device for `wanted`; auto is MPS, then CUDA, then the CPU.

    Raises UsageError, and ModelError where torch cannot be imported. Asking it takes seconds, so it
    is asked only if its build and the machine could have one.
    """
    if wanted == "cpu" or (wanted == "auto" and not _may_have_accelerator()):
        return "cpu"
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            f"this bundle cannot use {wanted}",
            why="its profile leaves out torch: the packed engine computes on the CPU",
            next_step="--device cpu, or a bundle of the profile mps or safe",
        )
    try:
        from sidecar.engines.devices import choose_device as ask  # noqa: PLC0415 (heavy)
    except ImportError as error:
        raise _unimportable(error) from error
    return ask(wanted)


def _may_have_accelerator() -> bool:
    """Return whether torch is here, in a build that could drive what this machine may have."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    libraries = Path(spec.origin).with_name("lib")
    return any((libraries / name).is_file() for name in _CUDA_LIBRARIES)
