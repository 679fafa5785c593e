from __future__ import annotations

from sidecar.process.children import needed

ENVIRONMENT = {"SYSTEMROOT": "C:\\Windows", "PATH": "C:\\", "SIDECAR_TOKEN": "secret"}


def test_windows_starts_python_with_one_variable_and_others_without() -> None:
    assert needed(ENVIRONMENT, platform="win32") == {"SYSTEMROOT": "C:\\Windows"}
    assert needed({}, platform="win32") == {}
    for platform in ("linux", "darwin"):
        assert needed(ENVIRONMENT, platform=platform) == {}
