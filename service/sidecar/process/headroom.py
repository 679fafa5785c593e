"""Whether what is to be loaded fits under this process's limit of address space, where it has one.

Native libraries end the process when they get no memory, without a word that helps anybody; so the
limit is looked at before they are loaded. What they need was measured on Linux with two cores, and
is a lower bound: more cores need more.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sidecar.errors import ModelError

MIB = 1 << 20
LIBRARIES_BYTES = 320 * MIB  # all that is there before the model
REFERENCE_BYTES = 1000 * MIB  # torch and sentence-transformers
PER_WEIGHT = 1.5  # bytes of address space per byte of a model's weights


def limit() -> int | None:
    """Return the bytes of address space that this process may have, None if nobody limits it."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 (not on Windows)

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else int(soft)


def used() -> int | None:
    """Return the bytes of address space that this process has, None where nobody tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415

    return pages * resource.getpagesize()


def require(needed: int) -> None:
    """Raise ModelError unless `needed` bytes more may be had."""
    bound, taken = limit(), used()
    if bound is not None and taken is not None and bound - taken < needed:
        raise too_little(needed=needed)


def weights_of(folder: Path) -> int:
    """Return the bytes of address space that the weights in a model's folder need."""
    return int(PER_WEIGHT * sum(file.stat().st_size for file in folder.rglob("*.safetensors")))


def too_little(*, needed: int | None = None) -> ModelError:
    """Return the error for a model that has not enough memory, with the numbers that are known."""
    bound, taken = limit(), used()
    facts: dict[str, str | int] = {}
    parts = []
    if needed is not None:
        parts.append(f"it needs at least {needed} bytes more")
        facts["needed_bytes"] = needed
    if bound is not None:
        parts.append(f"the limit of address space is {bound} bytes")
        facts["limit_bytes"] = bound
        if taken is not None:
            left = max(0, bound - taken)
            parts.append(f"of which {left} are left")
            facts["available_bytes"] = left
    what = "there is not enough memory to load the model"
    step = "raise the limit (ulimit -v), or choose a smaller --model"
    return ModelError(what, why=", ".join(parts), next_step=step, facts=facts)
