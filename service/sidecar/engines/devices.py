"""Where the packed engine computes, found out without importing torch."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path

from sidecar.errors import UsageError

# torch's builds for CUDA have this library; the others do not.
_CUDA_LIBRARIES = ("libtorch_cuda.so", "torch_cuda.dll")


def choose(wanted: str) -> str:
    """Return the device for `wanted`; auto is MPS, then CUDA, then the CPU. Raises UsageError.

    Asking torch takes seconds, so it is asked only if its build and the machine could have one.
    """
    if wanted == "cpu" or (wanted == "auto" and not _may_have_accelerator()):
        return "cpu"
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            f"this bundle cannot use {wanted}",
            why="it is a lean one: the packed engine on the CPU alone",
            next_step="--device cpu, or a bundle of the profile safe",
        )
    from sidecar.engines.reference import choose_device  # noqa: PLC0415 (heavy)

    return choose_device(wanted)


def _may_have_accelerator() -> bool:
    """Return whether torch is here, in a build that could drive what this machine may have."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    libraries = Path(spec.origin).with_name("lib")
    return any((libraries / name).is_file() for name in _CUDA_LIBRARIES)
