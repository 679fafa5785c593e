"""The command line. Loads nothing heavy: the port is taken before the first big import."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import gc
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

from sidecar import __version__, manifest
from sidecar.arguments import Parser, number
from sidecar.errors import AddressInUseError, ServiceError, UsageError
from sidecar.process import (
    cores,
    cpu_features,
    credentials,
    diagnosis,
    limits,
    listener,
    logs,
    min_system,
    origins,
    signals,
    stdio,
)
from sidecar.process.cpu_features import CpuFeatures
from sidecar.process.listener import LAST_PORT, host_name, listen, raise_limit
from sidecar.process.signals import ParentWatch
from sidecar.process.stdio import claim_stdout
from sidecar.settings import (
    MB,
    MOST_AGE_S,
    MOST_BODY_MB,
    MOST_DOCUMENT_S,
    MOST_MEMORY_MB,
    Bounds,
    Device,
    EngineName,
    Limits,
    Precision,
    Settings,
)

EMBED = "embed"  # the one word that is no option: without it the program serves
EXIT_CODES = """exit codes:
  0  stopped on request          5  the model is not here and may not be fetched
  1  a bug                       6  the model's files cannot be read
  2  usage or configuration      7  the model is refused by a rule
  3  the port is taken          10  this system or processor is too old, or
  4  a file of the model is         brings libraries that break the program
     damaged                    11  the model cannot be loaded, or a limit of
                                    the system leaves no room for it
"""
HELP = {
    "--host": "address to listen on (127.0.0.1)",
    "--port": "port to listen on; 0 takes a free one (8421)",
    "--allow-remote": "allow a --host that other machines can reach without a token",
    "--token-stdin": "serve only requests with the header Authorization: Bearer TOKEN, where TOKEN "
    f"is the first line of standard input; the environment's {credentials.VARIABLE} does so, too",
    "--token-file": "the same with a TOKEN from a file that only its owner can read",
    "--model": "a model of the bundle by name or repository; outside a bundle also a folder with a "
    "snapshot, or a repository; repeatable: the first is loaded at the start and serves requests "
    "that name none, another when one names it (all of the bundle, its default model first)",
    "--idle-unload": "unload a model that was not used for so many seconds (never)",
    "--max-memory": "MiB that models may take together: the one that was used longest ago is "
    "unloaded before another passes it (no limit)",
    "--model-cache": "a Hugging Face cache to look in outside a bundle",
    "--allow-download": "download a missing model (for development; bundles never pass it)",
    "--device": "device of the engine; auto takes MPS, then CUDA, then the CPU (auto)",
    "--engine": "packed is our own, reference is sentence-transformers itself; auto takes packed "
    "where it can run the model; hash makes vectors without a model, for tests (auto)",
    "--precision": "int8 is faster on processors with byte products, and slower on others; its "
    "vectors are in a space of their own (float32)",
    "--threads": "compute threads; by default one per physical core that this process may use",
    "--allow-dir": "a folder that /embed-file may read from, once it exists; repeatable (none)",
    "--allow-host": "a host name or address that clients use for this machine, beside those of the "
    "loopback; * takes any, for use behind a firewall or in a container; repeatable (none)",
    "--allow-origin": "the origin of a web page or desktop shell that may call the service, as "
    "app://obsidian.md or http://localhost:3000; repeatable (none)",
    "--max-body-mb": "largest request body in MiB (32)",
    "--document-cpu-seconds": "CPU time that reading one PDF may take; the pages read until then "
    "are answered (10)",
    "--document-seconds": "the same on the clock, for a busy machine (120)",
    "--max-connection-age": "serve one more request on a connection that is older, and close it "
    "(no limit)",
    "--instance": "name of this run in /health and the ready line, 8 to 64 letters and digits "
    "(random)",
    "--parent-watch": "stop when standard input is closed, end at once when the parent process "
    "dies",
    "--check-options": "check the options, and end",
    "--log-level": "lowest level of the log on stderr (%(default)s)",
    "--log-format": "json, an object per line, or text (%(default)s)",
}
log = logging.getLogger("sidecar")
Given = TypeVar("Given", Settings, Limits, Bounds)


def _host(text: str) -> str:
    try:
        return text if text == "*" else host_name(text)
    except ValueError:
        raise argparse.ArgumentTypeError("not a host name or address") from None


def _megabytes(text: str) -> int:
    return number(1, MOST_BODY_MB)(text) * MB


def _memory(text: str) -> int:
    return number(1, MOST_MEMORY_MB)(text) * MB


def _instance(text: str) -> str:
    if not listener.INSTANCE.fullmatch(text):
        message = "an id has 8 to 64 letters, digits, dots, dashes and underscores"
        raise argparse.ArgumentTypeError(message)
    return text


def _add_engine(add: Callable[..., None]) -> None:
    """Add what says how a model computes, to the service and to `embed` alike."""
    add("--model-cache", type=Path, metavar="DIR")
    add("--allow-download", action="store_true")
    add("--device", choices=get_args(Device), default="auto")
    add("--engine", choices=get_args(EngineName), default="auto")
    add("--precision", choices=get_args(Precision), default="float32")
    add("--threads", type=number(1, 1024), metavar="N")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the service's options."""
    made = Parser(
        prog="embedding_sidecar",
        description="Serve text embeddings on this machine, over HTTP.\n"
        "`embedding_sidecar embed --help`: embed files into Parquet instead.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=__version__)
    token = made.add_mutually_exclusive_group()

    def add(name: str, **shape: Any) -> None:  # noqa: ANN401 (as argparse takes it)
        group = token if name.startswith("--token") else made
        group.add_argument(name, help=HELP[name], **shape)

    flag = functools.partial(add, action="store_true")
    several = functools.partial(add, action="append", default=[])
    add("--host", default="127.0.0.1")
    add("--port", type=number(0, LAST_PORT), default=8421)
    flag("--allow-remote")
    flag("--token-stdin")
    add("--token-file", type=Path, metavar="FILE")
    several("--model", dest="models", metavar="NAME")
    idle = number(1, MOST_AGE_S)
    add("--idle-unload", dest="idle_unload_s", type=idle, metavar="SECONDS")
    add("--max-memory", dest="max_memory_bytes", type=_memory, metavar="N")
    _add_engine(add)
    several("--allow-dir", dest="allow_dirs", type=Path, metavar="DIR")
    several("--allow-host", dest="allow_hosts", type=_host, metavar="NAME")
    several("--allow-origin", dest="allow_origins", metavar="ORIGIN")
    body = {"dest": "max_body_bytes", "type": _megabytes, "metavar": "N"}
    add("--max-body-mb", default=32 * MB, **body)
    seconds = {"type": number(1, MOST_DOCUMENT_S), "metavar": "N"}
    add("--document-cpu-seconds", dest="document_cpu_s", default=10, **seconds)
    add("--document-seconds", dest="document_wall_s", default=120, **seconds)
    age = number(1, MOST_AGE_S)
    add("--max-connection-age", dest="max_age_s", type=age, metavar="SECONDS")
    add("--instance", type=_instance, metavar="ID")
    flag("--parent-watch")
    flag("--check-options")
    add("--log-level", choices=logs.LEVELS, default="info")
    add("--log-format", choices=logs.FORMATS, default="json")
    return made


def features_from(environment: Mapping[str, str]) -> CpuFeatures:
    """Return the processor's features, less those that tests take away. Raises UsageError."""
    name = cpu_features.VARIABLE
    try:
        return cpu_features.detect(lacks=environment.get(name, ""))
    except ValueError as error:
        what = f"the environment variable {name} is invalid"
        raise UsageError(what, why=str(error), next_step=f"unset {name}") from error


def _allowed(folder: Path) -> Path:
    """Return the real path of `folder`, which need not be there yet. Raises UsageError."""
    try:
        resolved = folder.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        what = "--allow-dir has an invalid path"
        raise UsageError(
            what, why=str(folder), next_step="name a folder, or leave out the option"
        ) from error
    with contextlib.suppress(OSError):  # it cannot be asked for now, as that of a drive elsewhere
        if resolved.exists() and not resolved.is_dir():
            what = "--allow-dir names a file, not a folder"
            raise UsageError(what, why=str(folder), next_step="name the folder around it")
    return resolved


def settings_from(
    options: argparse.Namespace, *, bundle: Path | None, features: CpuFeatures | None = None
) -> Settings:
    """Return the settings that the parsed `options` mean. Raises UsageError.

    `features` are the processor's, None if nothing is known of it.
    """
    told = vars(options)
    first, *more = options.models or [None]
    own = {
        "model": first,
        "more_models": tuple(more),
        "bundle": bundle,
        "threads": options.threads or cores.count(),
        "has_byte_products": (features or CpuFeatures()).has_byte_products,
        "allow_dirs": tuple(map(_allowed, options.allow_dirs)),
        "allow_hosts": tuple(options.allow_hosts),
        "allow_origins": tuple(map(origins.origin_of, options.allow_origins)),
        "limits": _made(Limits, told),
        "bounds": _made(Bounds, told),
    }
    return _made(Settings, told | own)


def _made(kind: type[Given], told: Mapping[str, Any]) -> Given:
    """Return the dataclass `kind` of what is told by the names of its fields."""
    names = (field.name for field in dataclasses.fields(kind))
    return kind(**{name: told[name] for name in names if told.get(name) is not None})


def main(
    argv: Sequence[str] | None = None,
    *,
    service: Path | None = None,
    default: Callable[[], Path] | None = None,
) -> int:
    """Serve until stopped, or embed files, and return 0. Raises ServiceError.

    `service` is the folder that the package lies in. Outside of a bundle `default` finds the one
    whose default model is served where no option names another.
    """
    variable = credentials.take(os.environ)
    home = service or Path(__file__).absolute().parent.parent
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [EMBED]:
        embed(words[1:], bundle=manifest.find_bundle(home), default=default)
        return 0
    options = parser().parse_args(words)
    logs.configure(options.log_level, options.log_format)
    if options.check_options:
        settings_from(options, bundle=manifest.find_bundle(home))
        return 0
    # Until requests are served a stop has none to wait for, and imports may take seconds.
    stop = signals.Stop(early=functools.partial(os._exit, 0))
    signals.install(stop)
    limits.on_spent_time(lambda failure: os._exit(_end(failure)))
    signals.watch(stop)
    lease = ParentWatch(stop) if options.parent_watch else None
    if lease is not None:
        lease.begin()
    features = features_from(os.environ)
    min_system.require_processor(features)
    first = next(iter(options.models), None)
    bundle = _bundle_for(first, options.engine, manifest.find_bundle(home), default)
    settings = settings_from(options, bundle=bundle, features=features)
    _require_system(settings)
    events = claim_stdout()
    has_token = options.token_stdin or options.token_file is not None or variable is not None
    try:
        sock = listen(
            settings.host, settings.port, allow_remote=settings.allow_remote, has_token=has_token
        )
    except AddressInUseError as error:
        raise listener.named(error, settings.host, settings.port) from error
    raise_limit()
    # Read once the port is ours, so that a token for us never waits beside another's port.
    token = credentials.read(
        is_on_stdin=options.token_stdin, file=options.token_file, variable=variable
    )
    settings = dataclasses.replace(settings, token=token, bounds=bounded(settings.bounds))
    if lease is not None:
        lease.listen()  # not before: the first line may be the token
    limits.require_memory(limits.LIBRARIES, is_model=False)
    limits.require(threads_needed=limits.THREADS + settings.threads + cores.logical())
    diagnosis.told(os.environ)
    # What is imported stays: to look for garbage in it takes 30 ms or more of a start, and whenever
    # all of it is looked at later, no thread runs for as long.
    gc.disable()
    # The web stack is imported only once the port is ours.
    from sidecar.server import serve  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    return serve(settings, sock=sock, stop=stop, events=events)


def _bundle_for(
    model: str | None, engine: str, own: Path | None, default: Callable[[], Path] | None
) -> Path | None:
    """Return the bundle to take models from: our own, or the default where none is named."""
    if own is None and default and model is None and engine != "hash":
        return default()
    return own


def _require_system(settings: Settings) -> None:
    if settings.bundle is not None:
        # A manifest that cannot be read is damage, and is told where the model is verified.
        with contextlib.suppress(manifest.ManifestError):
            min_system.require(manifest.read(settings.bundle).floor)


def embed_parser() -> argparse.ArgumentParser:
    """Return the parser of `embed`."""
    from sidecar.batch import options  # noqa: PLC0415 (heavy, and serving needs none of it)

    made = options.parser()

    def add(name: str, **shape: Any) -> None:  # noqa: ANN401 (as argparse takes it)
        made.add_argument(name, help=HELP[name], **shape)

    _add_engine(add)
    add("--log-level", choices=logs.LEVELS, default="warning")
    add("--log-format", choices=logs.FORMATS, default="text")
    return made


def embed(
    argv: Sequence[str], *, bundle: Path | None, default: Callable[[], Path] | None = None
) -> None:
    """Embed files as the options `argv` say. Raises ServiceError."""
    options = embed_parser().parse_args(argv)
    options.ray = options.ray or os.environ.get("RAY_ADDRESS") or None
    logs.configure(options.log_level, options.log_format)
    try:
        from sidecar.batch import command  # noqa: PLC0415 (as above)
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        what = "this bundle cannot embed files"
        step = "use a bundle of the profile batch: python3 build assemble --profile batch"
        raise UsageError(what, why="its profile leaves out pyarrow", next_step=step) from error
    features = features_from(os.environ)
    min_system.require_processor(features)
    own = {
        "bundle": _bundle_for(options.model, options.engine, bundle, default),
        "threads": options.threads or (1 if options.ray else cores.count()),
        "has_byte_products": features.has_byte_products,
        "limits": _made(Limits, vars(options)),
    }
    settings = _made(Settings, vars(options) | own)
    _require_system(settings)
    command.run(settings, options)


def bounded(bounds: Bounds) -> Bounds:
    """Return `bounds` with no more idle connections than a quarter of the files that may be open.

    More connections than files wait in the system's queue.
    """
    limit = limits.files().value
    most = bounds.max_idle if limit is None else min(bounds.max_idle, max(1, limit // 4))
    return dataclasses.replace(bounds, max_idle=most)


def _end(failure: ServiceError) -> int:
    logs.tell_end(failure)
    return failure.exit_code


def run(
    argv: Sequence[str] | None = None, *, default: Callable[[], Path] | None = None
) -> NoReturn:
    """Run the program and end the process with the code of what happened."""
    stdio.fill_standard()
    logs.configure("info")
    logs.catch_uncaught()
    try:
        code = main(argv, default=default)
    except ServiceError as error:
        code = _end(diagnosis.of_system(error) or error)
    except KeyboardInterrupt:
        code = 0
    except Exception as error:
        failure = diagnosis.of_system(error)
        if failure is None:
            log.exception("a bug ends the service")
        code = ServiceError.exit_code if failure is None else _end(failure)
    signals.exit_at_once(code)
    raise SystemExit(code)
