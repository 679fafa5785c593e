"""Which engines this copy of the service has, found out without importing them."""

from __future__ import annotations

import importlib.util


def has_reference() -> bool:
    """Return whether sentence-transformers is here; a lean bundle is without it."""
    return importlib.util.find_spec("sentence_transformers") is not None
