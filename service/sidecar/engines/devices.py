"""What torch knows of this machine's devices. Importing this module imports torch alone."""

from __future__ import annotations

import torch

from sidecar.errors import UsageError


def choose_device(wanted: str) -> str:
    """Return the device for `wanted`; auto is MPS, then CUDA, then the CPU. Raises UsageError."""
    available = {
        "mps": torch.backends.mps.is_available(),
        "cuda": torch.cuda.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, is_there in available.items() if is_there)
    if not available[wanted]:
        what = f"this machine has no {wanted} device"
        why = "there is no such hardware, or the bundled torch was built without it"
        raise UsageError(what, why=why, next_step="--device auto, or --device cpu")
    return wanted


def empty_cache(device: str) -> None:
    """Give back what the allocator of `device` holds."""
    if device != "cpu":
        getattr(torch, device).empty_cache()
