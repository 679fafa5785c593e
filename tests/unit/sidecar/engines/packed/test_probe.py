from __future__ import annotations

import onnx

from sidecar.engines.packed import probe
from sidecar.process.cpu_features import detect


def test_the_model_that_asks_is_one_of_onnx() -> None:
    onnx.checker.check_model(onnx.load_model_from_string(probe.product_graph()), full_check=True)


def test_sums_are_clipped_where_x86_lacks_the_instructions_alone() -> None:
    found = detect()
    is_x86 = found.level is not None
    assert probe.clips() is (is_x86 and not found.has_byte_products)
