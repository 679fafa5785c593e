"""Fetching a model from the Hugging Face hub: for development only, never from a bundle."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import huggingface_hub
from tqdm.std import tqdm

from sidecar.errors import UnreachableError
from sidecar.models.snapshot import Snapshot
from sidecar.process.stdio import EventWriter

# By name, as repositories also hold pickles and copies for other runtimes.
PATTERNS = ("*.json", "*.txt", "*.model", "model*.safetensors", "*/model*.safetensors")
IGNORED = ("onnx/*", "openvino/*", ".*")
STEP_BYTES = 4 << 20
log = logging.getLogger("sidecar.download")


def fetch(repository: str, cache: Path | None, events: EventWriter) -> Snapshot:
    """Return the newest snapshot of `repository`, fetched into `cache` (None: the hub's own).

    The bytes are the hub's word: no lock says what they should be. Raises UnreachableError.
    """
    log.warning("downloading a model that is not locked: do not ship this")
    total = _Progress.of(repository, events)
    events.write_event("download_started", {"model": repository})
    try:
        path = huggingface_hub.snapshot_download(
            repository,
            cache_dir=None if cache is None else cache / "hub",
            allow_patterns=list(PATTERNS),
            ignore_patterns=list(IGNORED),
            tqdm_class=total,
        )
    except Exception as error:
        what = f"the model {repository} cannot be downloaded"
        step = "check the name and the network, or give --model FOLDER"
        raise UnreachableError(what, why=type(error).__name__, next_step=step) from error
    return Snapshot(repository=repository, revision=Path(path).name, path=Path(path))


class _Progress(tqdm):  # type: ignore[misc]  # untyped
    """A progress bar that announces instead of drawing.

    Not the hub's own class: that counts nothing where drawing is turned off, as we do.
    """

    events: EventWriter
    repository: str
    said = 0

    @classmethod
    def of(cls, repository: str, events: EventWriter) -> type[_Progress]:
        """Return the class for one download."""
        return type("Progress", (cls,), {"repository": repository, "events": events})

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        start: Any = super().__init__  # untyped
        start(*args, **{**kwargs, "disable": False, "file": io.StringIO()})

    def update(self, n: float | None = 1) -> bool | None:
        drawn: bool | None = super().update(n)
        is_bytes = self.unit == "B"
        if is_bytes and (self.n - self.said >= STEP_BYTES or self.n == self.total):
            self.said = int(self.n)
            data: dict[str, object] = {"model": self.repository, "downloaded": int(self.n)}
            if self.total:
                data |= {"total": int(self.total), "percent": round(100 * self.n / self.total, 1)}
            self.events.write_event("download_progress", data)
        return drawn
