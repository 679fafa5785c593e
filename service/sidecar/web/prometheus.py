"""The numbers of the run as Prometheus reads them; imported when they are first asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from sidecar import __version__
from sidecar.metrics import BUCKETS_S, Counts, Histogram
from sidecar.problems import CLIENT_CLOSED
from sidecar.web.state import Service

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
TOO_MANY = 429
_BOUNDS = [*map(str, BUCKETS_S), "+Inf"]


def render(service: Service) -> bytes:
    """Return the numbers of `service` and of this process in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Run(service))
    ProcessCollector(registry=registry)  # of Linux; elsewhere there is nothing of it
    return generate_latest(registry)


class _Run(Collector):
    """Reads everything at the moment it is asked."""

    def __init__(self, service: Service) -> None:
        self._encoder = service.encoder
        self._workers = service.pdf_pool

    def collect(self) -> Iterable[Metric]:
        yield self._build()
        yield _gauge("ready", "Whether requests are served.", int(self._encoder.status == "ok"))
        yield from _of_requests(self._encoder.counts)
        yield from _of_work(self._encoder.counts, self._encoder.queued)
        yield _gauge(
            "long_requests", "Requests computed part by part.", self._encoder.long_requests
        )
        yield from _of_workers(self._workers.counts)

    def _build(self) -> Metric:
        loaded = self._encoder.loaded
        said = {"version": __version__}
        if loaded is not None:
            engine = loaded.engine
            said |= {"engine": engine.name, "precision": engine.precision, "device": engine.device}
            said |= {"degraded": loaded.degraded or ""}
        return InfoMetricFamily(
            "sidecar_build", "Version, engine, precision, device and fallback.", value=said
        )


def _of_requests(counts: Counts) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "sidecar_requests", "Answers by route and status.", labels=["route", "status"]
    )
    for (route, status), count in sorted(counts.requests.items()):
        requests.add_metric([route, str(status)], count)
    yield requests
    seconds = HistogramMetricFamily(
        "sidecar_request_seconds",
        "Time from the request to the end of its answer.",
        labels=["route"],
    )
    for route, found in sorted(counts.seconds.items()):
        seconds.add_metric([route], buckets=_buckets(found), sum_value=found.total_s)
    yield seconds
    yield _counter(
        "requests_refused", "Answered 429: the queue was full.", counts.with_status(TOO_MANY)
    )
    yield _counter(
        "clients_gone",
        "Clients that disconnected before the answer.",
        counts.with_status(CLIENT_CLOSED),
    )
    yield _counter(
        "slow_readers",
        "Connections closed because the client read too slowly.",
        counts.slow_readers,
    )
    documents = CounterMetricFamily(
        "sidecar_documents", "Documents by outcome.", labels=["outcome"]
    )
    for outcome, count in sorted(counts.documents.items()):
        documents.add_metric([outcome], count)
    yield documents


def _of_work(counts: Counts, queued: Mapping[str, int]) -> Iterator[Metric]:
    yield _counter("texts", "Texts embedded.", counts.texts)
    yield _counter("tokens", "Tokens of the embedded texts, as they were computed.", counts.tokens)
    waiting = GaugeMetricFamily("sidecar_queued_tokens", "Queued tokens.", labels=["lane"])
    for lane, tokens in queued.items():
        waiting.add_metric([lane], tokens)
    yield waiting
    yield SummaryMetricFamily(
        "sidecar_batch_seconds",
        "Calls of the engine and their time.",
        count_value=counts.batches,
        sum_value=counts.batch_s,
    )


def _of_workers(ends: Counter[str]) -> Iterator[Metric]:
    pdfs = CounterMetricFamily("sidecar_pdfs", "PDFs by outcome.", labels=["outcome"])
    for outcome, count in sorted(ends.items()):
        pdfs.add_metric([outcome], count)
    yield pdfs
    yield _counter("worker_crashes", "Processes that crashed on a PDF.", ends["crash"])


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"sidecar_{name}", what, value=value)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sidecar_{name}", what, value=value)


def _buckets(found: Histogram) -> list[tuple[str, float]]:
    return list(zip(_BOUNDS, accumulate(found.counts), strict=True))
