"""The files a plan names, once they are all on this disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials:
    """Verified inputs of one assembly.

    `files` maps a sha256 to a file with that content: wheels, the runtime's archive, model files.
    `policy` holds the recipe's tables on licences, native code and inner libraries. `compiler` is
    the Python 3.11 that compiles the bytecode.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    service: Path
    golden: Path
    policy: Mapping[str, Any] = field(default_factory=dict)
    compiler: Path
