from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from sidecar.engines import instructions
from sidecar.engines.packed import probe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni sse2\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\n", True),
        ("processor : 0\nFeatures\t: fp asimd asimddp\n", True),
        ("flags\t\t: fpu avx avx2 avx512f\n", False),
        ("model name\t: the avx512_vnni\n", False),
        ("flags\t\t: avx512_vnni_not\n", False),
        ("", False),
    ],
)
def test_linux_lists_what_a_processor_can(tmp_path: Path, text: str, *, expected: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text, encoding="utf-8")
    assert instructions.linux(path) is expected


def test_a_kernel_that_lists_nothing_is_not_trusted_with_it(tmp_path: Path) -> None:
    assert instructions.linux(tmp_path / "none") is False


class Library:
    """The C library of a Mac, as far as it is asked."""

    def __init__(self, value: int, status: int = 0) -> None:
        self._value, self._status = value, status

    def sysctlbyname(self, name: bytes, value: Any, *_: Any) -> int:
        assert name == b"hw.optional.arm.FEAT_DotProd"
        value._obj.value = self._value
        return self._status


@pytest.mark.parametrize(
    ("library", "expected"), [(Library(1), True), (Library(0), False), (Library(1, -1), False)]
)
def test_a_mac_is_asked_by_name(
    monkeypatch: pytest.MonkeyPatch, library: Library, *, expected: bool
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert instructions.multiply_bytes() is expected


def test_a_mac_that_cannot_be_asked_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> None:
        raise OSError

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", broken)
    assert instructions.multiply_bytes() is False


@pytest.mark.parametrize("clips", [True, False])
def test_elsewhere_the_sums_tell(monkeypatch: pytest.MonkeyPatch, *, clips: bool) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(probe, "clips", lambda: clips)
    assert instructions.multiply_bytes() is not clips


def test_the_model_that_asks_is_one_of_onnx() -> None:
    onnx.checker.check_model(onnx.load_model_from_string(probe.product_graph()), full_check=True)


def test_sums_and_flags_tell_the_same_of_this_processor() -> None:
    found = probe.clips()
    if platform.machine() == "x86_64":
        assert found is not instructions.linux(Path("/proc/cpuinfo"))
    else:
        assert found is False
