"""Two models in one service: which one a request gets, by each API's field, and what is listed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.engines import Unloaded
from sidecar.errors import IntegrityError
from sidecar.models.loader import Candidate, Loaded
from sidecar.models.snapshot import Description
from sidecar.process import limits
from sidecar.scheduling.served import Residence
from tests.support.answered import problem, rows
from tests.support.stub_engine import SNAPSHOT, Served, StubEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from httpx2 import Response

SMALL = replace(SNAPSHOT, name="small", repository="org/small-words", aliases=("all-small",))
LARGE = replace(
    SNAPSHOT,
    name="large",
    repository="org/large-words",
    aliases=("large-embed",),
    path=Path("large"),
)
NAMES = ("large", "org/large-words", "Large-Words", "LARGE-embed")
TEXT = "one text"
FORMS: dict[str, Callable[[str], dict[str, Any]]] = {
    "/embed": lambda text: {"texts": [text]},
    "/v1/embeddings": lambda text: {"input": text},
    "/api/embed": lambda text: {"input": text},
    "/api/embeddings": lambda text: {"prompt": text},
}


class LargeEngine(StubEngine):
    dim = 12
    max_tokens = 20


class TwoModels:
    """A service with a small model, and a large one that is loaded when it is asked for."""

    def __init__(self, *, is_loaded: bool = True, **residence: Any) -> None:
        self.loads = 0
        self.failure: Exception | None = None
        description = Description(family="bert", parameters=1_000_000, size=10)
        facts = Unloaded(dim=12, max_tokens=20, space="exact")
        large = Loaded(engine=facts, snapshot=LARGE, description=description)
        engine = StubEngine()
        small = Loaded(engine=engine, snapshot=SMALL, description=description)
        known = replace(small, engine=Unloaded())
        models = (
            Candidate(known=known, load=lambda _: small),
            Candidate(known=large, load=self._load),
        )
        self.served = Served(
            engine=engine,
            load=lambda _: small,
            residence=Residence(models=models, **residence),
            is_loaded=is_loaded,
        )

    def _load(self, report: Callable[[Any], None]) -> Loaded:
        report("loading")
        self.loads += 1
        if self.failure is not None:
            raise self.failure
        return Loaded(engine=LargeEngine(), snapshot=LARGE)

    def models(self) -> dict[str, str]:
        """Return the phase of each model, as /health has it."""
        return {one["model"]: one["phase"] for one in self.served.get("/health").json()["models"]}

    def ask(self, path: str, model: str | None) -> Response:
        body = FORMS[path](TEXT)
        return self.served.post(path, body if model is None else {**body, "model": model})


@pytest.fixture
def two() -> Iterator[TwoModels]:
    made = TwoModels()
    yield made
    made.served.close()


@pytest.fixture
def brief() -> Iterator[TwoModels]:
    """Return a service that unloads models."""
    made = TwoModels(idle_s=600)
    yield made
    made.served.close()


def vector(path: str, answer: Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    found: Any = {
        "/embed": lambda: rows(answer)[0],
        "/v1/embeddings": lambda: body["data"][0]["embedding"],
        "/api/embed": lambda: body["embeddings"][0],
        "/api/embeddings": lambda: body["embedding"],
    }[path]()
    return list(map(float, found))


@pytest.mark.parametrize("path", FORMS)
def test_a_name_selects_the_model_and_the_first_answers_without(two: TwoModels, path: str) -> None:
    assert len(vector(path, two.ask(path, None))) == 8
    assert two.models() == {"org/small-words": "ready", "org/large-words": "unloaded"}
    found = {tuple(vector(path, two.ask(path, name))) for name in NAMES}
    assert {len(one) for one in found} == {12}
    assert len(found) == 1
    assert len(vector(path, two.ask(path, "all-small"))) == 8
    assert two.loads == 1
    assert two.models() == {"org/small-words": "ready", "org/large-words": "ready"}


def test_all_models_are_listed_from_the_first_answer_on() -> None:
    made = TwoModels(is_loaded=False)
    try:
        assert made.served.get("/health").status_code == 503
        assert made.models() == {"org/small-words": "starting", "org/large-words": "unloaded"}
        made.served.encoder._report("checking")
        assert made.models()["org/small-words"] == "checking"
        here = [
            (sample.labels["model"], sample.value)
            for family in text_string_to_metric_families(made.served.get("/metrics").text)
            for sample in family.samples
            if sample.name == "sidecar_model_loaded"
        ]
        assert here == [("org/large-words", 0), ("org/small-words", 0)]
        made.served.run(made.served.encoder.start())
        assert made.models() == {"org/small-words": "ready", "org/large-words": "unloaded"}
    finally:
        made.served.close()


def test_answers_say_which_model_they_are_of(two: TwoModels) -> None:
    prints = {}
    for name in ("small", "large"):
        ours = two.ask("/embed", name).json()
        prints[name] = ours["fingerprint"]
        assert ours["model"] == f"org/{name}-words"
        for path in ("/v1/embeddings", "/api/embed", "/api/embeddings"):
            headers = two.ask(path, name).headers
            assert headers["x-sidecar-model"] == ours["model"]
            assert headers["x-sidecar-fingerprint"] == ours["fingerprint"]
    assert prints["small"] != prints["large"]


def test_another_name_is_404_in_the_form_of_each_api(two: TwoModels) -> None:
    refused = two.ask("/embed", "nomic-embed-text")
    assert problem(refused, 404)["why"] == "this service has small, large"
    body = two.ask("/v1/embeddings", "text-embedding-3-small")
    assert (body.status_code, body.json()["error"]["code"]) == (404, "model_not_found")
    for path in ("/api/embed", "/api/embeddings"):
        answer = two.ask(path, "nomic-embed-text")
        assert answer.status_code == 404
        assert answer.json().keys() == {"error"}
    for shown in (two.served.get("/v1/models/other"), two.served.post("/api/show", {"model": "x"})):
        assert shown.status_code == 404
    assert two.loads == 0


def test_requests_of_tei_may_name_a_model_too(two: TwoModels) -> None:
    compared = {"inputs": {"source_sentence": TEXT, "sentences": [TEXT]}}
    asked: dict[str, dict[str, Any]] = {"/embed": {"inputs": TEXT}, "/similarity": compared}
    for path, body in asked.items():
        for name, model in ((None, "small"), ("LARGE-embed", "large"), ("large:latest", "large")):
            answer = two.served.post(path, body if name is None else {**body, "model": name})
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-sidecar-model"] == f"org/{model}-words"
    assert len(two.served.post("/embed", {"inputs": TEXT, "model": "large"}).json()[0]) == 12
    more: dict[str, dict[str, Any]] = {"/tokenize": {"inputs": TEXT}, "/decode": {"ids": [1]}}
    for path, body in {**asked, **more}.items():
        refused = two.served.post(path, {**body, "model": "nomic-embed-text"})
        assert (refused.status_code, refused.json()["error_type"]) == (404, "Validation")


def test_documents_are_cut_and_embedded_by_the_model_that_is_named(two: TwoModels) -> None:
    text = "word " * 40
    headers = {"content-type": "text/plain"}
    seen = {}
    for name in ("small", "large"):
        path = f"/embed-file/upload?unit=tokens&model={name}"
        answer = two.served.post(path, content=text.encode(), headers=headers)
        body = answer.json()
        assert answer.status_code == 200, body
        seen[name] = max(span["tokens"] for span in body["spans"])
        assert body["model"] == f"org/{name}-words"
        assert {len(row) for row in body["vectors"]} == {body["dim"]}
        lines = two.served.post(
            path, content=text.encode(), headers={**headers, "accept": "application/x-ndjson"}
        ).text.splitlines()
        start, *_ = [json.loads(line)["data"] for line in lines if '"start"' in line]
        assert (start["model"], start["fingerprint"]) == (body["model"], body["fingerprint"])
        assert start["chunks"] == len(body["chunks"])
    assert seen == {"small": 10, "large": 20}
    refused = two.served.post(
        "/embed-file/upload?model=other", content=b"a", headers={"content-type": "text/plain"}
    )
    problem(refused, 404)


def test_a_document_of_an_allowed_folder_may_name_its_model_too(two: TwoModels) -> None:
    problem(two.served.post("/embed-file", {"path": "/nowhere", "model": "other"}), 404)
    problem(two.served.post("/embed-file", {"path": "/nowhere", "model": "large"}), 403)


@pytest.mark.parametrize("form", ["problem", "openai", "ollama"])
def test_a_model_that_cannot_be_loaded_is_503_in_each_form_and_tried_again(
    two: TwoModels, form: str
) -> None:
    two.failure = IntegrityError("models/large/x is missing", next_step="install the app again")
    path = {"problem": "/embed", "openai": "/v1/embeddings", "ollama": "/api/embed"}[form]
    answer = two.ask(path, "large")
    assert answer.status_code == 503
    assert "the model large cannot be loaded" in answer.text
    assert "install the app again" in answer.text
    health = two.served.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    told = {"model": "org/large-words", "phase": "failed", "failure": "model-fails"}
    assert health.json()["models"][1] == told
    large = two.served.get("/info").json()["models"][1]
    assert (large["phase"], large["failure"]) == ("failed", "model-fails")
    assert 'load_failures_total{model="org/large-words"} 1.0' in two.served.get("/metrics").text
    assert len(vector(path, two.ask(path, None))) == 8
    two.failure = None
    assert len(vector(path, two.ask(path, "large"))) == 12
    assert two.served.get("/health").json()["models"][1]["failure"] is None


def test_what_the_limit_of_memory_does_not_allow_is_507() -> None:
    made = TwoModels(max_bytes=64 << 20, needs=lambda _: 40 << 20)
    try:
        answer = made.ask("/embed", "large")
        assert problem(answer, 507)["type"].endswith("out-of-memory")
        assert "--max-memory" in answer.json()["next"]
        openai = made.ask("/v1/embeddings", "large")
        assert (openai.status_code, openai.headers["x-should-retry"]) == (507, "false")
        for refused in (answer, openai, made.ask("/api/embed", "large")):
            assert "retry-after" not in refused.headers
        assert len(vector("/embed", made.ask("/embed", "small"))) == 8
    finally:
        made.served.close()


def test_memory_that_may_be_given_back_is_507_to_try_again(two: TwoModels) -> None:
    """Other models have left for it, and what requests hold beside them goes with these."""
    two.failure = limits.too_little()
    for path in FORMS:
        refused = two.ask(path, "large")
        assert (refused.status_code, refused.headers["retry-after"]) == (507, "5")
        assert "x-should-retry" not in refused.headers


def test_all_models_are_listed_and_those_in_memory_as_running(two: TwoModels) -> None:
    def listed(path: str, key: str) -> list[str]:
        return [one[key] for one in two.served.get(path).json().get("models", [])]

    openai = two.served.get("/v1/models").json()["data"]
    assert [one["id"] for one in openai] == ["small", "large"]
    names = ["small:latest", "small-words:latest", "all-small:latest"]
    names += ["large:latest", "large-words:latest", "large-embed:latest"]
    assert listed("/api/tags", "name") == names
    assert listed("/api/ps", "name") == ["small:latest"]
    shown = two.served.post("/api/show", {"model": "large"}).json()
    assert shown["model_info"]["bert.embedding_length"] == 12
    assert two.served.get("/v1/models/large-embed").json()["id"] == "large"
    assert two.loads == 0
    two.ask("/embed", "large")
    assert listed("/api/ps", "name") == ["small:latest", "large:latest"]


def test_info_describes_every_model_and_keeps_what_it_said_of_the_first(two: TwoModels) -> None:
    before = two.served.get("/info").json()
    print_ = two.ask("/embed", "large").json()["fingerprint"]
    after = two.served.get("/info").json()
    assert before["model_id"] == after["model_id"] == "org/small-words"
    assert (before["dim"], before["fingerprint"]) == (8, before["models"][0]["fingerprint"])
    assert before["models"][0] == after["models"][0]
    cold, warm = before["models"][1], after["models"][1]
    assert (cold["phase"], cold["engine"], cold["device"]) == ("unloaded", None, None)
    assert (warm["phase"], warm["engine"], warm["device"]) == ("ready", "stub", "cpu")
    for said in (cold, warm):
        assert (said["dim"], said["max_tokens"], said["fingerprint"]) == (12, 20, print_)
        assert said["names"] == ["large", "org/large-words", "large-words", "large-embed"]


def test_numbers_are_counted_for_each_model_beside_those_of_all(two: TwoModels) -> None:
    for name in ("small", "large", "large"):
        two.ask("/embed", name)
    found = {
        (sample.name, sample.labels.get("model")): sample.value
        for family in text_string_to_metric_families(two.served.get("/metrics").text)
        for sample in family.samples
    }
    assert found["sidecar_texts_total", None] == 3
    assert found["sidecar_model_texts_total", "org/small-words"] == 1
    assert found["sidecar_model_texts_total", "org/large-words"] == 2
    assert found["sidecar_model_tokens_total", "org/large-words"] == 8
    assert found["sidecar_model_loads_total", "org/large-words"] == 1
    assert found["sidecar_model_unloads_total", "org/large-words"] == 0
    assert found["sidecar_model_loaded", "org/large-words"] == 1


def settled(two: TwoModels) -> dict[str, str]:
    """Return the phases once no model goes."""

    async def until() -> None:
        for model in two.served.encoder.models.all:
            if model.going is not None:
                await model.going

    two.served.run(until())
    return two.models()


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
@pytest.mark.parametrize("keep_alive", [0, "0", "0s", 0.0])
def test_keep_alive_of_zero_unloads_after_the_answer(
    brief: TwoModels, path: str, keep_alive: object
) -> None:
    body = {**FORMS[path](TEXT), "model": "large", "keep_alive": keep_alive}
    assert len(vector(path, brief.served.post(path, body))) == 12
    assert settled(brief)["org/large-words"] == "unloaded"
    assert len(vector(path, brief.ask(path, "large"))) == 12
    assert settled(brief)["org/large-words"] == "ready"
    assert brief.loads == 2


@pytest.mark.parametrize(
    ("keep_alive", "left_s"),
    [
        ("5m", 300),
        (90, 90),
        ("1m30s", 90),
        ("1.5m", 90),
        ("2h", 600),
        (-1, 600),
        ("-1", 600),
        ("-1s", 600),
        (None, 600),
    ],
)
def test_keep_alive_is_a_number_or_a_duration_within_the_idle_time(
    brief: TwoModels, keep_alive: object, left_s: float
) -> None:
    brief.served.post("/api/embed", {"input": TEXT, "model": "large", "keep_alive": keep_alive})
    models = brief.served.encoder.models
    assert models.left_s(models.all[1]) == pytest.approx(left_s, abs=30)
    running = brief.served.get("/api/ps").json()["models"]
    assert all(one["expires_at"].startswith("20") for one in running)


@pytest.mark.parametrize(
    "keep_alive", ["soon", "5", "5 m", "--5m", "5m!", "", [], "9" * 400, "1h" * 33]
)
def test_what_is_no_duration_is_refused(brief: TwoModels, keep_alive: object) -> None:
    answer = brief.served.post("/api/embed", {"input": TEXT, "keep_alive": keep_alive})
    is_number = keep_alive == "5"  # seconds, as a number is
    assert answer.status_code == (200 if is_number else 400), answer.text


def test_a_service_that_unloads_nothing_ignores_keep_alive(two: TwoModels) -> None:
    two.served.post("/api/embed", {"input": TEXT, "model": "large", "keep_alive": 0})
    assert settled(two)["org/large-words"] == "ready"
    expiries = {one["expires_at"] for one in two.served.get("/api/ps").json()["models"]}
    assert expiries == {"9999-12-31T23:59:59Z"}


def test_an_unloaded_first_model_is_still_described_and_comes_again(brief: TwoModels) -> None:
    before = brief.served.get("/info").json()
    vectors = rows(brief.ask("/embed", None))
    brief.served.post("/api/embed", {"input": TEXT, "model": "small", "keep_alive": 0})
    assert settled(brief)["org/small-words"] == "unloaded"
    health = brief.served.get("/health")
    assert (health.status_code, health.json()["phase"]) == (200, "ready")
    assert health.json()["dim"] == 8
    after = brief.served.get("/info").json()
    for key in ("engine", "device", "fingerprint", "dim", "max_tokens"):
        assert after[key] == before[key]
    assert brief.served.get("/api/ps").json() == {"models": []}
    for path, body in (("/tokenize", {"inputs": TEXT}), ("/decode", {"ids": [1]})):
        assert brief.served.post(path, body).status_code == 200
        brief.served.post("/api/embed", {"input": TEXT, "model": "small", "keep_alive": 0})
        assert settled(brief)["org/small-words"] == "unloaded"
    answer = brief.served.post("/embed", {"inputs": TEXT})
    assert np.array_equal(np.asarray(answer.json(), dtype=np.float32), vectors)
