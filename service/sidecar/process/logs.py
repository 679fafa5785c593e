"""Log lines on stderr: what happened, never what was said.

No text of a request, no path of the user and no token is ever logged. A traceback shows where it
was, by module, line and function, and the exception's type; its message may quote a request and is
left out. Of what libraries say only the first line is kept, as the rest often shows objects.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from sidecar import request_id
from sidecar.errors import ServiceError
from sidecar.process import stdio

Format = Literal["json", "text"]
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("json", "text")
STDERR = 2
OURS = "sidecar"
MAX_MESSAGE_CHARS = 2_000
FIELDS = "fields"  # of a record: what a program reads beside its message
# A quoted text with a separator in it, which may have spaces; else two separators or more.
_QUOTED_PATH = re.compile(r"""(['"])(?:(?!\1)[^\n\\/])*[\\/](?:(?!\1)[^\n])*\1""")
_PATH = re.compile(
    r"""(?<![\w<:/\\.])(?:~|[A-Za-z]:|file://)?[\\/](?:[^\s\\/'"]+[\\/])+[^\s'",;:)\]]*"""
)
_WARNED_AT = re.compile(r"^.*?:\d+: (?=\w+: )")


def discreet(text: str) -> str:
    """Return `text` with the paths in it replaced."""
    return _PATH.sub("<path>", _QUOTED_PATH.sub("<path>", text))


def frames(tb: TracebackType | None) -> list[str]:
    """Return the frames of a traceback, outermost first, as `module:line:function`."""
    found = traceback.walk_tb(tb)
    return [f"{f.f_globals.get('__name__', '?')}:{line}:{f.f_code.co_name}" for f, line in found]


def message_of(record: logging.LogRecord) -> str:
    """Return what `record` says, without paths, and of a library's no more than a first line."""
    said = record.getMessage()
    if record.name != OURS and not record.name.startswith(f"{OURS}."):
        said = _WARNED_AT.sub("", said).strip().partition("\n")[0]
    return discreet(said)[:MAX_MESSAGE_CHARS]


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object; times are UTC, as RFC 3339 spells them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message_of(record),
        }
        request = request_id.current()
        if request is not None:
            line["request"] = request
        line |= getattr(record, FIELDS, {})
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            if isinstance(record.exc_info[1], ImportError) and record.exc_info[1].name:
                line["module"] = record.exc_info[1].name
            line["frames"] = frames(record.exc_info[2])
        failure = getattr(record, "failure", None)
        if isinstance(failure, ServiceError):
            reasons = {"why": failure.why, "next": failure.next_step}
            line |= {name: discreet(text) for name, text in reasons.items() if text}
            line |= {"exit_code": failure.exit_code, **failure.facts}
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """Formats a record for people: level, logger, message, and the error that ends the service."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines, without their end."""
        failure = getattr(record, "failure", None)
        if isinstance(failure, ServiceError):
            return failure.render()
        line = f"{record.levelname} {record.name}: {message_of(record)}"
        request = request_id.current()
        if request is not None:
            line = f"{line} (request {request})"
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, tb = record.exc_info
            line = "\n".join([line, *(f"  {frame}" for frame in frames(tb)), kind.__name__])
        return line


class DescriptorHandler(logging.Handler):
    """Writes lines to a file descriptor, and drops those that its reader has no room for."""

    def __init__(self, descriptor: int) -> None:
        """Write to `descriptor`."""
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, or drop it when its reader is gone or slow."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 (a record that cannot be spelled ends nothing)
            self.handleError(record)
        else:
            stdio.offer(self._descriptor, f"{line}\n".encode(errors="backslashreplace"))


def configure(level: str, form: Format = "json") -> None:
    """Send all logging to stderr at `level`; libraries speak from warning up."""
    # A record that cannot be spelled must not turn into tracebacks, which may quote it.
    logging.raiseExceptions = False
    handler = DescriptorHandler(STDERR)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(level.upper())
    logging.captureWarnings(capture=True)


def catch_uncaught() -> None:
    """Log uncaught exceptions of threads and finalizers, which Python prints with its message."""

    def hook(where: str) -> Callable[[threading.ExceptHookArgs | sys.UnraisableHookArgs], None]:
        def log(failure: threading.ExceptHookArgs | sys.UnraisableHookArgs) -> None:
            error = failure.exc_value or failure.exc_type()
            info = (failure.exc_type, error, failure.exc_traceback)
            logging.getLogger(OURS).error("unhandled exception in %s", where, exc_info=info)

        return log

    threading.excepthook, sys.unraisablehook = hook("a thread"), hook("a finalizer")


def tell_end(failure: ServiceError) -> None:
    """Log, as the last line, the error that ends the service.

    As text it is told in full to the one who typed the command; as JSON without paths.
    """
    logging.getLogger(OURS).error("%s", failure.what, extra={"failure": failure})
