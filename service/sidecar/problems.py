"""What keeps a request from being served, as plain data: no word of the input is in it.

Every problem says what happened, why, and what to do next; the web makes answers of them.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.process.limits import Limit

CLIENT_CLOSED = 499
LONGEST_RETRY_S = 60
# The status of RFC 9457, by the kind of problem.
STATUSES = {
    **dict.fromkeys(("bad-host", "bad-json", "bad-request", "no-text"), 400),
    "no-token": 401,
    **dict.fromkeys(("no-folder-allowed", "web-page"), 403),
    **dict.fromkeys(("no-file", "unknown-model", "unknown-path"), 404),
    "wrong-method": 405,
    "too-slow": 408,
    "file-changed": 409,
    "too-large": 413,
    **dict.fromkeys(("content-encoding", "media-type"), 415),
    "unknown-host": 421,
    **dict.fromkeys(("bad-path", "bad-value", "text-fails", "text-too-long"), 422),
    **dict.fromkeys(("too-many-texts", "too-many-values", "too-much-overlap"), 422),
    **dict.fromkeys(("file-kind", "not-text", "wrong-encoding", "document-timeout"), 422),
    "busy": 429,
    "large-head": 431,
    "client-gone": CLIENT_CLOSED,
    "bug": 500,
    **dict.fromkeys(("loading", "stopping", "engine-died", "engine-fails"), 503),
    **dict.fromkeys(("bundle-gone", "disk-error", "folder-missing", "no-permission"), 503),
    **dict.fromkeys(("no-process", "document-busy", "system-limit", "model-fails"), 503),
    "out-of-memory": 507,
}
REFUSED_DOCUMENT = 422  # of the other kinds that begin with `document-`


@dataclass(eq=False, repr=False)
class Problem(Exception):  # noqa: N818 (RFC 9457 calls it a problem)
    """A request that cannot be served: `kind` names it for programs, the rest is for people.

    None of it may quote the request. `what` becomes `detail`, the field that older clients read.
    `retry_s` says when to try again; one that `closes` ends the connection, as what still comes is
    not read.
    """

    kind: str
    what: str
    why: str = ""
    next_step: str = ""
    _: KW_ONLY
    retry_s: int | None = None
    closes: bool = False

    def __post_init__(self) -> None:
        """Be its kind in a log, and nothing of what it says."""
        super().__init__(self.kind)

    @property
    def status(self) -> int:
        """The status that the answer has."""
        return STATUSES.get(self.kind, REFUSED_DOCUMENT)


def not_ready(phase: str) -> Problem:
    """Return the problem of a request that came before the model."""
    step = "ask GET /health until it answers 200"
    return Problem("loading", "the model is still loading", f"phase: {phase}", step, retry_s=1)


def stopping() -> Problem:
    """Return the problem of a request that the service will not finish."""
    why = "it is shutting down and takes no new requests"
    step = "start it again and repeat the request"
    return Problem("stopping", "the service is stopping", why, step, retry_s=5, closes=True)


def busy(what: str, why: str, *, retry_s: float) -> Problem:
    """Return the problem of a request that there is no room for at present."""
    seconds = min(max(1, round(retry_s)), LONGEST_RETRY_S)
    step = f"send it again in {seconds} s (Retry-After)"
    return Problem("busy", what, why, step, retry_s=seconds)


def at_limit(what: str, limit: Limit) -> Problem:
    """Return the problem of a request that met a limit of the system."""
    step = f"send it again when fewer requests run; {limit.remedy}"
    return Problem("system-limit", what, str(limit), step, retry_s=5)


def bundle_gone() -> Problem:
    """Return the problem of a request that needs a file of the bundle, which is no longer there."""
    what = "the service needs a file of its bundle, which is gone"
    why = "the bundle was moved, replaced or deleted while the service ran"
    step = "restart the service from the bundle's current path, and send the request again"
    return Problem("bundle-gone", what, why, step, retry_s=5)


def client_gone() -> Problem:
    """Return the problem of a client that left before its answer."""
    return Problem("client-gone", "the client went away")
