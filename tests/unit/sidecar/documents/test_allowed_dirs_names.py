from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.documents import allowed_dirs
from sidecar.problems import Problem

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "path",
    [
        "CON",
        "C:\\docs\\nul.txt",
        "C:/com1 .md",
        "C:/aux/a.txt",
        "a.txt:stream",
        "C:/docs/a.txt:stream:$DATA",
        "C:/Users/a:b/c.txt",
        "\\\\server\\share\\a.txt",
        "//server/share/a.txt",
        "\\\\?\\C:\\a.txt",
        "\\??\\C:\\a.txt",
        "C:/docs/a.txt.",
        "C:/docs /a.txt",
        "C:/what?.txt",
        "C:/a\nb.txt",
        "C:/" + "\u00e9" * 256,
    ],
    ids=range(16),
)
def test_what_windows_opens_otherwise_is_422_there_alone(path: str) -> None:
    with pytest.raises(Problem) as caught:
        allowed_dirs.check_spelling(path, is_windows=True)
    assert (caught.value.status, caught.value.kind) == (422, "bad-path")
    if len(path) < 200:
        allowed_dirs.check_spelling(path, is_windows=False)


@pytest.mark.parametrize(
    "path",
    ["C:/Users/a.txt", "C:\\a\\..\\console.txt", "D:/a.b.txt", "C:/" + "\u5951" * 255],
)
def test_ordinary_paths_pass_on_windows(path: str) -> None:
    allowed_dirs.check_spelling(path, is_windows=True)


def test_a_long_name_is_measured_as_the_system_does() -> None:
    name = "\u5951" * 100  # 300 bytes, 100 units
    allowed_dirs.check_spelling(f"C:/{name}", is_windows=True)
    with pytest.raises(Problem):
        allowed_dirs.check_spelling(f"/{name}", is_windows=False)


def test_a_very_large_folder_is_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "e\u0301").touch()
    assert allowed_dirs.find(tmp_path, "\u00e9") == "e\u0301"
    for number in range(3):
        (tmp_path / str(number)).touch()
    monkeypatch.setattr(allowed_dirs, "MAX_ENTRIES", 1)
    assert allowed_dirs.find(tmp_path, "\u00e9") is None
