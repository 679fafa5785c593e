"""A large file that appears whole: written beside its place, synced, renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bundler import checkpoints
from bundler.files.modes import PLAIN, set_mode
from bundler.files.partial import abandoned, disk_error, sync_folder, try_lock
from bundler.files.renaming import replace

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator


@contextlib.contextmanager
def whole(output: Path) -> Iterator[io.BufferedWriter]:
    """Give a stream whose bytes are at `output` once the block has ended, with mode 0644.

    If the block raises, nothing changed. A crash leaves the old file or the new one, and perhaps a
    hidden one beside it, which the next run sweeps. Raises DiskError.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for leftover in abandoned(output.parent, f".{escape(output.name)}.*"):
            leftover.unlink(missing_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
        beside = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as raw:
                try_lock(descriptor)
                yield raw
                raw.flush()
                os.fsync(raw.fileno())
            set_mode(beside, PLAIN)
            checkpoints.reach("archive.written")
            replace(beside, output)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(output.parent)
    except OSError as error:
        raise disk_error(error, output.parent, purpose=output.name) from error
