"""Log lines on stderr: what happened, never what was said.

No text of a request, no path of the user and no token is ever logged, so a traceback shows its
frames and the exception's type, and leaves its message out.
"""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType

FORMAT = "%(levelname)s %(name)s: %(message)s"
LEVELS = ("debug", "info", "warning", "error")

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class DiscreetFormatter(logging.Formatter):
    """Formats exceptions without their messages, which may quote a request."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 (logging's own name)
        """Return the frames and the type."""
        kind, _, tb = ei
        frames = "".join(traceback.format_tb(tb)).rstrip()
        return f"{frames}\n{kind.__name__ if kind else 'no exception'}"


def configure(level: str) -> None:
    """Send all logging to stderr at `level`; libraries speak from warning up."""
    # A reader of stderr that went away must not turn into tracebacks.
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(DiscreetFormatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sidecar").setLevel(level.upper())
    logging.captureWarnings(capture=True)
