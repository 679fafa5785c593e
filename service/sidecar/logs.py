"""Log lines on stderr: what happened, never what was said.

No text of a request, no path of the user and no token is ever logged, so a traceback shows its
frames and the exception's type, and leaves its message out.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

from sidecar import descriptors

FORMAT = "%(levelname)s %(name)s: %(message)s"
LEVELS = ("debug", "info", "warning", "error")
STDERR = 2

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class DiscreetFormatter(logging.Formatter):
    """Formats exceptions without their messages, which may quote a request."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 (logging's own name)
        """Return the frames and the type."""
        kind, _, tb = ei
        frames = "".join(traceback.format_tb(tb)).rstrip()
        return f"{frames}\n{kind.__name__ if kind else 'no exception'}"


class DescriptorHandler(logging.Handler):
    """Writes lines to a file descriptor, and drops those that its reader has no room for."""

    def __init__(self, descriptor: int) -> None:
        """Write to `descriptor`."""
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, or drop it when nobody reads."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 (a record that cannot be spelled ends nothing)
            self.handleError(record)
        else:
            descriptors.offer(self._descriptor, f"{line}\n".encode(errors="backslashreplace"))


def configure(level: str) -> None:
    """Send all logging to stderr at `level`; libraries speak from warning up."""
    # A record that cannot be spelled must not turn into tracebacks, which may quote it.
    logging.raiseExceptions = False
    handler = DescriptorHandler(STDERR)
    handler.setFormatter(DiscreetFormatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sidecar").setLevel(level.upper())
    logging.captureWarnings(capture=True)
