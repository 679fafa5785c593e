"""The numbers of the run as Prometheus reads them; imported when they are first asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

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
from sidecar.metrics import BUCKETS_S, Histogram
from sidecar.problems import CLIENT_CLOSED
from sidecar.scheduling.encoder import Encoder

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
TOO_MANY = 429
_BOUNDS = [*map(str, BUCKETS_S), "+Inf"]


def render(encoder: Encoder, pdfs: Counter[str]) -> bytes:
    """Return the numbers of `encoder`, of the `pdfs` by their ends and of this process.

    They are in Prometheus' text format.
    """
    registry = CollectorRegistry()
    registry.register(_Run(encoder, pdfs))
    ProcessCollector(registry=registry)  # of Linux; elsewhere there is nothing of it
    return generate_latest(registry)


class _Run(Collector):
    """Reads everything at the moment it is asked."""

    def __init__(self, encoder: Encoder, pdfs: Counter[str]) -> None:
        self._encoder = encoder
        self._pdfs = pdfs

    def collect(self) -> Iterable[Metric]:
        encoder, counts, pdfs = self._encoder, self._encoder.counts, self._pdfs
        refused, gone = counts.with_status(TOO_MANY), counts.with_status(CLIENT_CLOSED)
        slow = "Connections closed because the client read too slowly."
        tokens = "Tokens of the embedded texts, as they were computed."
        requests = _counter("requests", "Answers by route and status.", None, "route", "status")
        calls = "Calls of the engine and their time."
        return [
            self._build(),
            _gauge("ready", "Whether requests are served.", int(encoder.status == "ok")),
            _by(requests, counts.requests),
            _histogram(counts.seconds),
            _counter("requests_refused", "Answered 429: the queue was full.", refused),
            _counter("clients_gone", "Clients that disconnected before the answer.", gone),
            _counter("slow_readers", slow, counts.slow_readers),
            _by(_counter("documents", "Documents by outcome.", None, "outcome"), counts.documents),
            _counter("texts", "Texts embedded.", counts.texts),
            _counter("tokens", tokens, counts.tokens),
            *self._of_models(),
            _by(_gauge("queued_tokens", "Queued tokens.", None, "lane"), encoder.queued),
            SummaryMetricFamily("sidecar_batch_seconds", calls, counts.batches, counts.batch_s),
            _gauge("long_requests", "Requests computed part by part.", encoder.long_requests),
            _by(_counter("pdfs", "PDFs by outcome.", None, "outcome"), pdfs),
            _counter("worker_crashes", "Processes that crashed on a PDF.", pdfs["crash"]),
        ]

    def _of_models(self) -> Iterable[Metric]:
        every = {one.loaded.snapshot.repository: one for one in self._encoder.models.all}
        numbers = {
            "texts": "Texts embedded, by model.",
            "tokens": "Tokens of the embedded texts, by model.",
            "loads": "Times that a model was brought into memory.",
            "load_failures": "Times that a model could not be brought into memory.",
            "unloads": "Times that a model was taken out of memory.",
        }
        here = _gauge("model_loaded", "Whether a model is in memory.", None, "model")
        yield _by(here, {name: int(one.is_here) for name, one in every.items()})
        for number, what in numbers.items():
            counted = {name: getattr(one, number) for name, one in every.items()}
            yield _by(_counter(f"model_{number}", what, None, "model"), counted)

    def _build(self) -> Metric:
        loaded = self._encoder.loaded
        said = {"version": __version__}
        if loaded is not None:
            engine = loaded.engine
            said |= {"engine": engine.name, "precision": engine.precision, "device": engine.device}
            said |= {"degraded": loaded.degraded or ""}
        what = "Version, and engine, precision, device and fallback of the first model."
        return InfoMetricFamily("sidecar_build", what, said)


def _counter(name: str, what: str, value: float | None, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"sidecar_{name}", what, value=value, labels=labels or None)


def _gauge(name: str, what: str, value: float | None, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"sidecar_{name}", what, value=value, labels=labels or None)


def _by(
    family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[Any, float]
) -> CounterMetricFamily | GaugeMetricFamily:
    """Return `family` with `values` by the value of its label, or those of its labels."""
    for labels, value in sorted(values.items()):
        family.add_metric([labels] if isinstance(labels, str) else [*map(str, labels)], value)
    return family


def _histogram(seconds: Mapping[str, Histogram]) -> Metric:
    what = "Time from the request to the end of its answer."
    made = HistogramMetricFamily("sidecar_request_seconds", what, labels=["route"])
    for route, found in sorted(seconds.items()):
        buckets = list(zip(_BOUNDS, accumulate(found.counts), strict=True))
        made.add_metric([route], buckets=buckets, sum_value=found.total_s)
    return made
