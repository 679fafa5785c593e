"""The rights that a signed app and the Python inside ask of macOS: as few as they run with."""

from __future__ import annotations

import plistlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bundler.electron.signables import Signable

ALLOW_JIT = "com.apple.security.cs.allow-jit"


def of_app() -> bytes:
    """Return the property list for the app and its helpers: V8 compiles as it runs."""
    return _property_list({ALLOW_JIT: True})


def of_python(native: Iterable[Signable]) -> bytes:
    """Return the property list for the programs of a bundle with the files `native`.

    Every library is signed by the app's own team, so library validation stays on; nothing is
    debugged, and no DYLD_ variable is set. Only a library that writes code needs a right.
    """
    return _property_list({ALLOW_JIT: True} if any(one.writes_code for one in native) else {})


def _property_list(rights: dict[str, bool]) -> bytes:
    return plistlib.dumps(rights, fmt=plistlib.FMT_XML, sort_keys=True)
