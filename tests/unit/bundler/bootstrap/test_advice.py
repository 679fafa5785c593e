from __future__ import annotations

import pytest

from bundler.bootstrap.interpreters import ways

UV = "uv run --no-project --python 3.11 python build up"


@pytest.mark.parametrize(
    ("system", "there", "has_package", "lines"),
    [
        ("linux", {"apt-cache"}, True, ["sudo apt install python3.11-venv"]),
        ("linux", {"apt-cache"}, False, []),
        ("linux", {"dnf"}, False, ["sudo dnf install python3.11"]),
        ("linux", {"zypper"}, False, ["sudo zypper install python311"]),
        ("linux", set(), False, []),
        ("darwin", {"brew"}, False, ["brew install python@3.11"]),
        ("win32", {"winget"}, False, ["winget install Python.Python.3.11"]),
        ("win32", {"brew"}, False, []),
    ],
)
@pytest.mark.parametrize("has_uv", [True, False])
def test_only_what_this_system_has_is_advised(
    system: str, there: set[str], lines: list[str], *, has_package: bool, has_uv: bool
) -> None:
    programs = there | ({"uv"} if has_uv else set())
    found = ways(
        "up",
        system=system,
        which=lambda name: f"/bin/{name}" if name in programs else None,
        has_package=lambda: has_package,
    )
    assert found[:-1] == lines
    assert found[-1].startswith(UV)
    assert ("pip install uv" in found[-1]) is not has_uv
