"""What one run of the service was told: built once by the command line and passed down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["float32", "int8"]
EngineName = Literal["auto", "packed", "reference", "hash"]
MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may ask for; `/info` shows them. Sizes in bytes, texts in characters.

    `max_chunked_chars` bounds all chunks of a document together: they overlap.
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
    document_timeout_s: float = 9.5  # so that the answer is there within ten


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one run.

    `bundle` is the root of the bundle that the service stands in, None outside of one.
    `allow_hosts` are names that it is called by beside those of the loopback.
    `threads` is how many compute at once. `instance` is what this run is called, None for a random
    name. `drain_s` is how long a stopping service lets running
    requests go on.
    """

    host: str = "127.0.0.1"
    port: int = 8421
    bundle: Path | None = None
    model: str | None = None
    model_cache: Path | None = None
    device: Device = "auto"
    engine: EngineName = "auto"
    precision: Precision = "float32"
    threads: int = 1
    allow_dirs: tuple[Path, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    allow_download: bool = False
    allow_remote: bool = False
    instance: str | None = None
    drain_s: float = 2.5
    limits: Limits = field(default_factory=Limits)
