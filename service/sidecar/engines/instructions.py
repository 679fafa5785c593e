"""Whether the processor adds up products of bytes in one instruction.

Those that cannot are slower at it, and x86 ones clip sums of two products to sixteen bits.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sidecar.process import cores

NAMES = "AVX512-VNNI, AVX-VNNI or Arm's dot product"
_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
_ARM_FEATURE = "hw.optional.arm.FEAT_DotProd"


def multiply_bytes() -> bool:
    """Return whether the processor that this process runs on has such an instruction."""
    if sys.platform == "linux":
        return linux(Path("/proc/cpuinfo"))
    if sys.platform == "darwin":
        return cores.sysctl(_ARM_FEATURE) == 1
    from sidecar.engines.packed import probe  # noqa: PLC0415 (heavy, and not wanted elsewhere)

    return not probe.clips()


def linux(cpuinfo: Path) -> bool:
    """Return whether the kernel lists one of them, in x86's `flags` or Arm's `Features`."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    listed = (line.partition(":") for line in lines)
    return any(
        name.strip() in ("flags", "Features") and _FLAGS & set(flags.split())
        for name, _, flags in listed
    )
