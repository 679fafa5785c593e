"""The way into the program, with a word for what keeps even its first modules from being read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def begin(default: Callable[[], Path] | None = None) -> NoReturn:
    """Run the program. Ends with its exit code, whatever is met, a foreign library included.

    `default` finds the bundle whose default model is served where nothing says another.
    """
    try:
        from sidecar.cli import run  # noqa: PLC0415 (Python's own native modules come with it)
    except (ImportError, OSError) as error:
        # These import no native library but Python's map of files.
        from sidecar.process import diagnosis, logs  # noqa: PLC0415

        failure = diagnosis.of_system(error)
        if failure is None:
            raise
        logs.configure("info")
        logs.tell_end(failure)
        raise SystemExit(failure.exit_code) from error
    run(default=default)
