"""The one variable that a process needs to start Python, for children that get nothing else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Without it Windows loads no Winsock, and Python no asyncio (error 10106).
NEEDED = ("SYSTEMROOT",)


def needed(environment: Mapping[str, str], *, platform: str = sys.platform) -> dict[str, str]:
    """Return the variables of `environment` without which no Python starts: on Windows one.

    Not run on Windows, where the names of variables are in capitals in `os.environ`.
    """
    if platform != "win32":
        return {}
    return {name: environment[name] for name in NEEDED if name in environment}
