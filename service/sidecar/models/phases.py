"""What a service that is not ready yet is doing: /health says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Phase = Literal["starting", "verifying", "downloading", "importing", "loading", "checking"]
Report = Callable[[Phase], None]
