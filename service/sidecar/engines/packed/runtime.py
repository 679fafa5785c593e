"""ONNX Runtime, told before it is loaded to report nothing to anybody.

Since 1.29 its releases keep an identifier and a database in HOME, a file in the temporary folder
and a thread that sends what they hold to their maker; see its docs/Privacy.md and pull request
27379. The variable is read once, when the library is loaded. On Windows events go to the system's
tracing instead, where the call stops them.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

onnxruntime.disable_telemetry_events()

__all__ = ["onnxruntime"]
