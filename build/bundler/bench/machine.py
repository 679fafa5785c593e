"""What the figures were measured on: nobody can compare them without."""

from __future__ import annotations

import datetime as dt
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from sidecar.process import cores

# The instructions that decide how fast matrices are multiplied.
TELLING = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)

CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, Any]:
    """Return the machine's processor, cores, memory, system and the time of day."""
    facts = _cpuinfo()
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": facts.get("model name") or platform.processor() or "unknown",
        "flags": [flag for flag in TELLING if flag in facts.get("flags", "").split()],
        "hardware_threads": os.cpu_count() or 1,
        "usable_cores": cores.count(),
        "memory_bytes": _memory(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
        "python": platform.python_version(),
    }


def _cpuinfo() -> dict[str, str]:
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault({"Features": "flags"}.get(name.strip(), name.strip()), value.strip())
    return facts


def _memory() -> int | None:
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None
