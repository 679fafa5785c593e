"""Tables are read and written by pyarrow and pylance, which only Linux has of the lock."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("pyarrow") else ["test_*.py"]
