"""Files that change together: all written beside their places first, then renamed one by one."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from bundler.files.partial import disk_error, sync_folder
from bundler.files.renaming import replace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def replace_files(texts: Mapping[Path, str]) -> None:
    """Make every file hold its text, in UTF-8 with plain line ends. Raises DiskError.

    A full disk or an error while writing changes nothing. A crash leaves each file old or new and
    never a part; between two renames the first may be new and the next one still old, so name last
    the file that holds the others' hashes: then a second run repairs it.
    """
    beside = {path: path.with_name(f".{path.name}.new") for path in texts}
    try:
        for path, fresh in beside.items():
            _write(path, fresh, texts[path])
        for path, fresh in beside.items():
            _rename(path, fresh)
    finally:
        for fresh in beside.values():
            with suppress(OSError):
                fresh.unlink(missing_ok=True)


def _write(path: Path, fresh: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        needed = len(text.encode())
        raise disk_error(error, path, purpose=path.name, needed=needed) from error


def _rename(path: Path, fresh: Path) -> None:
    try:
        replace(fresh, path)
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, path, purpose=path.name) from error
