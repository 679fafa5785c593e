"""The rights that a signed app and the Python inside ask of macOS: as few as they run with."""

from __future__ import annotations

import plistlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bundler.electron.signables import Signable

ALLOW_JIT = "com.apple.security.cs.allow-jit"
DISABLE_LIBRARY_VALIDATION = "com.apple.security.cs.disable-library-validation"
APP_SANDBOX = "com.apple.security.app-sandbox"
INHERIT = "com.apple.security.inherit"


def of_app(*, has_team: bool = True) -> bytes:
    """Return the property list for the app and its helpers: V8 compiles as it runs.

    A signature without a team, ad-hoc or self-signed, also needs its libraries not to be compared
    with it: macOS takes them for somebody else's.
    """
    return _property_list({ALLOW_JIT, *_lacking(has_team=has_team)})


def of_python(
    native: Iterable[Signable], *, has_team: bool = True, is_sandboxed: bool = False
) -> bytes:
    """Return the property list for the programs of a bundle with the files `native`.

    Every library is signed by the app's own team, so library validation stays on; nothing is
    debugged, and no DYLD_ variable is set. Only a library that writes code needs a right. In an app
    of the Mac App Store (`is_sandboxed`) a program shares the sandbox of the app that starts it.
    """
    jit = {ALLOW_JIT} if any(one.writes_code for one in native) else set()
    sandbox = {APP_SANDBOX, INHERIT} if is_sandboxed else set()
    return _property_list({*jit, *sandbox, *_lacking(has_team=has_team)})


def _lacking(*, has_team: bool) -> set[str]:
    return set() if has_team else {DISABLE_LIBRARY_VALIDATION}


def _property_list(rights: set[str]) -> bytes:
    return plistlib.dumps(dict.fromkeys(rights, True), fmt=plistlib.FMT_XML, sort_keys=True)
