"""Origins that may be allowed, as browsers spell them: the scheme, the host and the port."""

from __future__ import annotations

import re

from sidecar.errors import UsageError
from sidecar.process.listener import LAST_PORT

OPTION = "--allow-origin"
# Electron sends it of files that are the app's own, and a browser `null` of any.
FILES = "file://"
_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([A-Za-z0-9._~-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
# What people write for it: without a scheme, or with more than an origin has.
_WRITTEN = re.compile(r"(?:([^:/?#]*)://)?(?:[^/?#@]*@)?([^/?#]*)[/?#]?.*", re.DOTALL)


def origin_of(text: str) -> str:
    """Return the origin in `text`, which must be spelled as browsers send it. Raises UsageError."""
    if text == "*":
        why = "every web page that the user visits could use the service"
        raise UsageError(f"{OPTION} takes no *", why, _each("one that is an app's"))
    if text.lower() == "null":
        why = "pages of any site can have the origin null: sandboxed frames, local files"
        raise UsageError(f"{OPTION} takes no null", why, _each("one that the page has to itself"))
    if text == FILES or text == _meant(text):
        return text
    # One that is written by mistake may have a password in it.
    what = f"{OPTION} has a value that is no origin"
    if "*" in text:
        raise UsageError(what, "origins are compared whole, without wildcards", _each("each"))
    why = "a browser sends the scheme, the host and the port, in lower case, and nothing else"
    meant = _meant(text)
    raise UsageError(what, why, f"{OPTION} {meant}" if meant else _each("it as the page does"))


def _each(which: str) -> str:
    return f"name {which}, such as {OPTION} http://localhost:3000"


def _meant(text: str) -> str | None:
    """Return the origin that `text` means, None if there is none."""
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        return None
    scheme = (written[1] or "http").lower()
    if scheme == "file":
        return FILES
    # Hosts of other schemes are compared as they are.
    host = written[2].lower() if scheme in _PORTS else written[2]
    found = _ORIGIN.fullmatch(f"{scheme}://{host}")
    if found is None:
        return None
    port = int(found[3] or 0)
    if port > LAST_PORT:
        return None
    has_port = port not in (0, _PORTS.get(scheme))
    return f"{scheme}://{found[2]}:{port}" if has_port else f"{scheme}://{found[2]}"
