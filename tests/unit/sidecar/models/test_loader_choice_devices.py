from __future__ import annotations

import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.errors import UsageError
from sidecar.models import loader

if TYPE_CHECKING:
    from pathlib import Path


class Asked(Exception):  # noqa: N818 - no error, a sign
    """Raised in torch's place, with the device that it was asked for."""


@pytest.fixture
def torch_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for an installed torch, and for whatever asks it; return its folder."""
    folder = tmp_path / "torch"
    (folder / "lib").mkdir(parents=True)
    spec = ModuleSpec("torch", None, origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    monkeypatch.setattr(sys, "platform", "linux")

    def choose_device(wanted: str) -> str:
        raise Asked(wanted)

    module: Any = types.ModuleType("sidecar.engines.devices")
    module.choose_device = choose_device
    monkeypatch.setitem(sys.modules, "sidecar.engines.devices", module)
    return folder


@pytest.mark.usefixtures("torch_at")
@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_a_torch_without_accelerators_is_not_even_imported(wanted: str) -> None:
    assert loader.choose_device(wanted) == "cpu"


@pytest.mark.parametrize("library", ["libtorch_cuda.so", "torch_cuda.dll"])
def test_a_build_for_cuda_is_asked(torch_at: Path, library: str) -> None:
    (torch_at / "lib" / library).write_bytes(b"")
    with pytest.raises(Asked, match="auto"):
        loader.choose_device("auto")
    assert loader.choose_device("cpu") == "cpu"


@pytest.mark.usefixtures("torch_at")
@pytest.mark.parametrize(("machine", "is_asked"), [("arm64", True), ("x86_64", False)])
def test_on_a_mac_only_its_own_processors_are_asked(
    monkeypatch: pytest.MonkeyPatch, machine: str, *, is_asked: bool
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    if not is_asked:
        assert loader.choose_device("auto") == "cpu"
        return
    with pytest.raises(Asked):
        loader.choose_device("auto")


@pytest.mark.usefixtures("torch_at")
@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_asked_for_by_name_is_torchs_to_judge(wanted: str) -> None:
    with pytest.raises(Asked, match=wanted):
        loader.choose_device(wanted)


@pytest.fixture
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


@pytest.mark.usefixtures("lean")
@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_a_lean_bundle_computes_on_the_cpu(wanted: str) -> None:
    assert loader.choose_device(wanted) == "cpu"


@pytest.mark.usefixtures("lean")
@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_lean_bundle_refuses_another_device_with_exit_2(wanted: str) -> None:
    with pytest.raises(UsageError, match=f"cannot use {wanted}") as caught:
        loader.choose_device(wanted)
    assert caught.value.exit_code == 2
    assert "--device cpu" in caught.value.next_step


@pytest.mark.torch
def test_a_device_that_is_not_there_is_exit_2() -> None:
    with pytest.raises(UsageError, match="has no mps device"):
        loader.choose_device("mps")
