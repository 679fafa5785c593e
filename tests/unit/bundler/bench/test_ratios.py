from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bundler.bench.ratios import figures
from tests.support.benched import contender, subject

if TYPE_CHECKING:
    from bundler.bench.ratios import Figure


def found(**changes: Any) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(subject(**changes))}


def test_each_figure_is_the_ratio_that_it_is_called() -> None:
    values = {name: figure.value for name, figure in found().items()}
    assert values["start"] == 1.0 / 8.0
    assert values["port"] == 0.5
    assert values["whole"] == 3.0
    assert values["requests"] == 3.0
    assert values["crowd"] == 0.8
    assert values["single"] == pytest.approx(1 / 3)
    assert values["beside"] == pytest.approx(3.0)
    assert values["ceiling"] == pytest.approx((60 / 100 + 50 / 50) / 2)
    assert values["private"] == 200_000_000
    assert values["peak"] == 300_000_000
    assert values["int8"] == 2.0
    assert values["int8-ndcg"] == 0.95
    assert values["json"] == 0.05
    assert values["<peer> & Co-whole"] == 2.0


def test_a_side_that_is_absent_leaves_a_figure_that_says_so() -> None:
    ours = [contender("sidecar", "sidecar")]
    absent = [{"name": "sidecar int8", "why": "this service has no --precision"}]
    figures_ = found(contenders=ours, absent=absent)
    assert figures_["whole"].value is None
    assert "sentence-transformers is absent" in figures_["whole"].why
    assert figures_["int8"].why.endswith("this service has no --precision")
    assert figures_["crowd"].value == 0.8


@pytest.mark.parametrize(
    ("figure", "key", "entry"),
    [
        ("crowd", "crowds", {"texts": 8, "seconds": 5.0, "latencies": [], "failures": 3}),
        ("beside", "beside", {"idle": [1.0], "busy": [1.0], "failures": 3}),
    ],
)
def test_a_crowd_with_failures_has_no_ratio(figure: str, key: str, entry: dict[str, Any]) -> None:
    ours = {**contender("sidecar", "sidecar"), key: [entry, entry]}
    failed = found(contenders=[ours])[figure]
    assert failed.value is None
    assert "requests failed" in failed.why


def test_memory_is_missing_where_the_system_does_not_say_it() -> None:
    ours = contender("sidecar", "sidecar", private_bytes=None)
    assert found(contenders=[ours])["private"].value is None


def test_a_service_that_writes_otherwise_leaves_the_cost_open() -> None:
    assert found(writing=[])["json"].value is None


def test_the_document_of_a_figure_tells_what_is_wanted_and_whether_it_is_so() -> None:
    document = found()["whole"].document()
    assert document["aim"] == {"sign": "≥", "bound": 1.8}
    assert document["is_met"] is True
    assert found()["peak"].document()["aim"] is None
    unmeasured = found(writing=[])["json"].document()
    assert unmeasured["is_met"] is None
    assert unmeasured["aim"] is not None
