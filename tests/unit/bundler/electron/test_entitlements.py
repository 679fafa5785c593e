from __future__ import annotations

import plistlib

from bundler.electron import signing
from bundler.electron.signing import Signable

JIT = "com.apple.security.cs.allow-jit"
UNVALIDATED = "com.apple.security.cs.disable-library-validation"


def native(*, writes_code: bool) -> Signable:
    return Signable(path="a", kind="library", sha256="", code="", writes_code=writes_code)


def test_the_app_may_compile_as_it_runs_and_nothing_else() -> None:
    assert plistlib.loads(signing.app_entitlements()) == {JIT: True}


def test_python_has_no_rights_unless_a_library_asks_for_one() -> None:
    assert plistlib.loads(signing.python_entitlements([native(writes_code=False)])) == {}
    several = [native(writes_code=False), native(writes_code=True)]
    assert plistlib.loads(signing.python_entitlements(several)) == {JIT: True}


def test_nothing_may_be_debugged_or_load_what_others_signed() -> None:
    texts = (signing.app_entitlements(), signing.python_entitlements([native(writes_code=True)]))
    for refused in (b"get-task-allow", b"library-validation", b"dyld", b"unsigned-executable"):
        assert not any(refused in text for text in texts)


def test_a_signature_without_a_team_lets_foreign_libraries_in() -> None:
    assert plistlib.loads(signing.app_entitlements(has_team=False)) == {
        JIT: True,
        UNVALIDATED: True,
    }
    assert plistlib.loads(signing.python_entitlements([], has_team=False)) == {UNVALIDATED: True}


def test_in_the_app_store_python_shares_the_apps_sandbox() -> None:
    rights = plistlib.loads(signing.python_entitlements([], is_sandboxed=True))
    assert rights == {
        "com.apple.security.app-sandbox": True,
        "com.apple.security.inherit": True,
    }
