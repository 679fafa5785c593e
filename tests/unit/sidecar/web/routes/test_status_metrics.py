from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar import __version__, cli
from sidecar.scheduling import encoder
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from prometheus_client.samples import Sample


def scraped(served: Served) -> dict[str, list[Sample]]:
    answer = served.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def value(found: dict[str, list[Sample]], name: str, **labels: str) -> float:
    matching = [s.value for s in found[name] if labels.items() <= s.labels.items()]
    assert len(matching) == 1, (name, labels, found[name])
    return float(matching[0])


def test_requests_are_counted_by_route_and_status(
    served: Served,
) -> None:
    for _ in range(3):
        served.get("/health")
    served.post("/embed", {"texts": 7})
    for path in ("/a-path-made-up", "/another", "/health/none"):
        served.get(path)
    found = scraped(served)
    assert value(found, "sidecar_requests_total", route="/health", status="200") == 3
    assert value(found, "sidecar_requests_total", route="/embed", status="422") == 1
    assert value(found, "sidecar_requests_total", route="other", status="404") == 3
    assert {s.labels["route"] for s in found["sidecar_requests_total"]} == {
        "/health",
        "/embed",
        "other",
    }
    assert value(scraped(served), "sidecar_requests_total", route="/metrics", status="200") == 1


def test_what_the_guard_refuses_is_counted_too(served: Served) -> None:
    served.get("/health", headers={"host": "evil.example"})
    found = scraped(served)
    assert value(found, "sidecar_requests_total", route="/health", status="421") == 1


def test_request_time_is_a_histogram(
    served: Served,
) -> None:
    for _ in range(4):
        served.get("/health")
    found = scraped(served)
    buckets = [s for s in found["sidecar_request_seconds_bucket"] if s.labels["route"] == "/health"]
    assert buckets[-1].labels["le"] == "+Inf"
    assert buckets[-1].value == 4
    counts = [s.value for s in buckets]
    assert counts == sorted(counts)
    assert value(found, "sidecar_request_seconds_count", route="/health") == 4
    assert 0 < value(found, "sidecar_request_seconds_sum", route="/health") < 4


def test_texts_tokens_and_batches_are_counted_once_computed(served: Served) -> None:
    served.post("/embed", {"texts": ["one two", "three", "w " * 50]})
    served.post("/embed", {"texts": []})
    found = scraped(served)
    assert value(found, "sidecar_texts_total") == 3
    assert value(found, "sidecar_tokens_total") == 4 + 3 + 10
    assert value(found, "sidecar_batch_seconds_count") == len(served.engine.batches)
    assert value(found, "sidecar_batch_seconds_sum") > 0
    assert value(found, "sidecar_queued_tokens", lane="interactive") == 0
    assert value(found, "sidecar_queued_tokens", lane="bulk") == 0
    assert value(found, "sidecar_long_requests") == 0


def test_a_document_that_is_refused_is_counted_as_such(served: Served) -> None:
    served.post("/embed-file", {"path": "/nowhere"})
    found = scraped(served)
    assert value(found, "sidecar_documents_total", outcome="refused") == 1


def test_refusals_and_clients_that_left_have_numbers_of_their_own(served: Served) -> None:
    counts = served.encoder.counts
    for status in (429, 429, 499):
        counts.answer("/embed", status, 0.1)
    served.workers.counts.update(["read", "read", "crash"])
    for status, outcome in ((200, "embedded"), (503, "failed"), (499, "client-gone")):
        counts.answer("/embed-file", status, 20.0)
        assert counts.documents[outcome] == 1
    found = scraped(served)
    assert value(found, "sidecar_requests_refused_total") == 2
    assert value(found, "sidecar_clients_gone_total") == 2
    assert value(found, "sidecar_worker_crashes_total") == 1
    assert value(found, "sidecar_pdfs_total", outcome="read") == 2
    assert value(found, "sidecar_request_seconds_bucket", route="/embed-file", le="10.0") == 0


def test_the_build_and_the_process_are_described(served: Served) -> None:
    found = scraped(served)
    build = found["sidecar_build_info"][0].labels
    assert build == {
        "version": __version__,
        "engine": "stub",
        "precision": "float32",
        "device": "cpu",
        "degraded": "",
    }
    assert value(found, "sidecar_ready") == 1
    if sys.platform == "linux":
        assert value(found, "process_resident_memory_bytes") > 1 << 20
        assert value(found, "process_start_time_seconds") > 1e9


def test_a_service_that_still_loads_has_metrics_too() -> None:
    loading = Served(is_loaded=False)
    try:
        found = scraped(loading)
        assert value(found, "sidecar_ready") == 0
        assert found["sidecar_build_info"][0].labels == {"version": __version__}
    finally:
        loading.close()


@pytest.mark.parametrize("kind", ["counts", "queued"])
def test_what_is_read_at_the_scrape_is_there_from_the_start(kind: str, served: Served) -> None:
    made = encoder.Encoder(served._load, limits=served.settings.limits)
    assert getattr(made, kind)
    made.close()


def test_the_renderer_is_imported_by_nobody_else() -> None:
    program = "import sys, sidecar.web.app; print('prometheus_client' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env={"PYTHONPATH": str(Path(cli.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "False"
