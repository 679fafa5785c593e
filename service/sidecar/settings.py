"""What one run of the service was told: built once by the command line and passed down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sidecar.errors import UsageError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["float32", "int8"]
EngineName = Literal["auto", "packed", "reference", "hash"]
MB = 1 << 20
MOST_BODY_MB = 1024
MOST_DOCUMENT_S = 3600
MOST_AGE_S = 86_400
MOST_MEMORY_MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may ask for; `/info` shows them. Sizes in bytes, texts in characters.

    `max_chunked_chars` bounds all chunks of a document together: they overlap. The processes that
    read a document may compute for `document_cpu_s`, and take `document_wall_s`. The last three are
    for all requests: PDFs that wait to be read, tokens that wait, in each of the two lanes, and
    bytes of bodies, documents and answers, until these are taken.
    """

    max_body_bytes: int = 32 * MB
    max_texts: int = 65_536
    max_text_chars: int = 2_000_000
    max_batch_rows: int = 256
    max_batch_tokens: int = 16_384
    max_file_bytes: int = 20 * MB
    max_document_chars: int = 2_000_000
    max_chunked_chars: int = 16_000_000
    max_pages: int = 500
    document_cpu_s: float = 10.0
    document_wall_s: float = 120.0
    max_waiting_pdfs: int = 16
    max_queued_tokens: int = 262_144
    max_held_bytes: int = 256 * MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one connection may take: a head of so many bytes and headers, so long to arrive.

    `idle_s` is for one that waits for a request, `head_s` and `body_s` for the parts of one,
    `linger_s` for one that is refused to stop sending. In every `window_s` a client is to take
    `min_window_bytes` of its answer, and of a large one a part in `max_windows`, or what is left.
    Of those that wait, `max_idle` are kept, and more for `grace_s`, unless there are more than
    `max_connections` in all. The first request after `max_age_s` is the last of its connection.
    Seconds count while the service runs (`process/clock.py`).
    """

    idle_s: float = 10.0
    head_s: float = 10.0
    body_s: float = 30.0
    linger_s: float = 2.0
    # 16 KiB a minute is what web servers ask for by default (240 bytes a second), and with 30 such
    # minutes no answer, however large, is held for longer: of 39 MB it asks for 22 KB a second.
    window_s: float = 60.0
    min_window_bytes: int = 16_384
    max_windows: int = 30
    max_headers: int = 100
    max_head_bytes: int = 16_384
    max_idle: int = 128
    max_connections: int = 4096
    grace_s: float = 5.0
    max_age_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one run.

    `bundle` is the root of the bundle that the service stands in, None outside of one. Without a
    `model` all models of the bundle are served, with one it and `more_models`. One that is idle for
    `idle_unload_s` is unloaded, None for never; `max_memory_bytes` bound what models take.
    `allow_hosts` are names that it is called by beside those of the loopback, `allow_origins` are
    those of pages that may call it.
    `threads` is how many compute at once. `has_byte_products` is whether the processor multiplies
    bytes in one instruction, None where it does not tell. `instance` is what this run is called,
    None for a random name. `drain_s` is how long a stopping service lets running requests go on.
    `token` is what requests must show, if there is one. Raises UsageError for what excludes each
    other.
    """

    host: str = "127.0.0.1"
    port: int = 8421
    bundle: Path | None = None
    model: str | None = None
    more_models: tuple[str, ...] = ()
    idle_unload_s: int | None = None
    max_memory_bytes: int | None = None
    model_cache: Path | None = None
    device: Device = "auto"
    engine: EngineName = "auto"
    precision: Precision = "float32"
    threads: int = 1
    has_byte_products: bool | None = None
    allow_dirs: tuple[Path, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    allow_download: bool = False
    allow_remote: bool = False
    instance: str | None = None
    drain_s: float = 2.5
    limits: Limits = field(default_factory=Limits)
    bounds: Bounds = field(default_factory=Bounds)
    token: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raise UsageError for an engine, a device and a precision that exclude each other."""
        is_on_cpu, is_exact = self.device in ("auto", "cpu"), self.precision == "float32"
        if self.engine == "hash":
            others = {"--precision": not is_exact, "--device": not is_on_cpu}
            wrong = [option for option, is_other in others.items() if is_other]
            if wrong:
                what = "--engine hash computes in float32 on the CPU alone"
                raise UsageError(what, next_step=f"leave out {' and '.join(wrong)}")
        elif not is_exact:
            what = "--precision int8 cannot be served here"
            instead = "leave out --precision"
            if self.engine == "reference":
                why = "the reference engine computes in float32 alone"
                raise UsageError(what, why=why, next_step=f"--engine packed, or {instead}")
            if not is_on_cpu:
                why = f"on {self.device} the linear layers are computed in float32 alone"
                raise UsageError(what, why=why, next_step=f"--device cpu, or {instead}")
