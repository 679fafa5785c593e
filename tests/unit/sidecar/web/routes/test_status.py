from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar import __version__
from sidecar.settings import Settings
from sidecar.web.app import PATHS
from sidecar.web.routes import page
from tests.support.answered import problem
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from pathlib import Path

JSON = {"content-type": "application/json"}
LONG = "w " * 20


def test_health_of_a_ready_service_has_the_v1_fields_and_the_new_ones(served: Served) -> None:
    answer = served.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "model": "stub/words",
        "dim": 8,
        "device": "cpu",
        "phase": "ready",
        "instance": "an instance",
        "version": __version__,
        "bundle": "present",
        "degraded": None,
        "models": [{"model": "stub/words", "phase": "ready", "failure": None}],
    }


def test_health_says_503_and_the_phase_while_the_model_loads() -> None:
    loading = Served(is_loaded=False)
    try:
        answer = loading.get("/health")
        assert answer.status_code == 503
        assert (answer.json()["status"], answer.json()["phase"]) == ("loading", "starting")
        for path, method in (("/info", "GET"), ("/embed", "POST"), ("/embed-file", "POST")):
            refused = loading.request(method, path)
            assert problem(refused, 503)["why"] == "phase: starting"
            assert refused.headers["retry-after"] == "1"
    finally:
        loading.close()


def test_health_and_embed_say_503_once_the_service_stops(served: Served) -> None:
    served.encoder.refuse_new()
    assert served.get("/health").json()["status"] == "stopping"
    assert served.get("/health").status_code == 503
    problem(served.post("/embed", {"texts": ["a"]}), 503)


def test_info_tells_engine_limits_plan_and_fingerprint(served: Served) -> None:
    info = served.get("/info").json()
    assert info["model_id"] == "stub/words"
    assert (info["engine"], info["precision"], info["max_tokens"]) == ("stub", "float32", 10)
    assert info["plan"] == "a plan"
    assert info["prompts"] == ["query", "document"]
    assert info["threads"] == served.settings.threads
    assert info["limits"]["max_body_bytes"] == 32 << 20
    assert info["fingerprint"] == served.post("/embed", {"texts": []}).json()["fingerprint"]


@pytest.mark.parametrize("token", [None, b"t" * 32])
def test_info_lists_the_folders_and_their_paths_to_the_owner_of_the_token(
    tmp_path: Path, token: bytes | None
) -> None:
    folders = (tmp_path.resolve(), tmp_path.resolve() / "none")
    served = Served(Settings(allow_dirs=folders, token=token))
    try:
        headers = {"authorization": f"Bearer {token.decode()}"} if token else {}
        found = served.get("/info", headers=headers).json()["folders"]
    finally:
        served.close()
    assert [(folder["number"], folder["is_there"]) for folder in found] == [(1, True), (2, False)]
    paths = [str(folder) if token else None for folder in folders]
    assert [folder["path"] for folder in found] == paths


@pytest.mark.parametrize("status", ["stuck", "dead"])
def test_health_says_503_when_nothing_can_be_computed(
    served: Served, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(type(served.encoder._inference), "state", status)
    answer = served.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, status)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/embed", 405),
        ("POST", "/health", 405),
        ("TRACE", "/health", 405),
        ("BREW", "/embed", 405),
        ("OPTIONS", "/embed", 405),
        ("GET", "/health/none", 404),
    ],
)
def test_unknown_paths_and_methods_have_the_common_shape(
    served: Served, method: str, path: str, status: int
) -> None:
    problem(served.request(method, path), status)


REFUSING = {f"/api/{name}" for name in ("chat", "copy", "create", "delete", "generate", "push")}


def test_the_document_of_the_api_describes_every_route(served: Served) -> None:
    document = served.get("/openapi.json").json()
    listed = {path.replace(":path}", "}") for path in PATHS}
    assert set(document["paths"]) == listed - REFUSING - {*page.FILES, "/embeddings"}
    body = document["paths"]["/embed"]["post"]["requestBody"]
    ours, theirs = body["content"]["application/json"]["schema"]["oneOf"]
    assert theirs["required"] == ["inputs"]
    properties = ours["properties"]
    assert properties["batch_size"]["default"] == 16
    assert properties["pooling"]["default"] == "mean"


def test_api_document_gives_problems_a_media_type(
    served: Served,
) -> None:
    paths = served.get("/openapi.json").json()["paths"]
    refused = paths["/embed"]["post"]["responses"]["422"]["content"]
    assert set(refused) == {"application/problem+json", "application/json"}
    schema = refused["application/problem+json"]["schema"]
    assert set(problem(served.post("/embed", {}), 422)) <= set(schema["properties"])


def test_there_is_no_page_that_loads_scripts(served: Served) -> None:
    assert served.get("/docs").status_code == 404
    assert served.get("/redoc").status_code == 404


def test_shutdown_answers_202_and_asks_to_stop_once(served: Served) -> None:
    answer = served.post("/shutdown")
    assert (answer.status_code, served.stops) == (202, 1)
