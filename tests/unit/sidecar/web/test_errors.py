from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from sidecar import problems, request_id
from sidecar.problems import Problem
from sidecar.web import errors

REQUEST = Request({"type": "http", "headers": []})


def asked(*, is_gone: bool) -> Request:
    """Return a request of an app whose bundle is there, or is not."""
    service = SimpleNamespace(presence=SimpleNamespace(is_gone=is_gone))
    app = SimpleNamespace(state=SimpleNamespace(service=service))
    return Request({"type": "http", "headers": [], "app": app})


def body(problem: Problem) -> dict[str, Any]:
    answer = errors.ProblemResponse(problem)
    assert answer.status_code == problem.status
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(bytes(answer.body))
    return found


def test_a_problem_has_the_fields_of_rfc_9457_and_the_detail_of_v1() -> None:
    assert body(Problem("bad-value", "what", why="why", next_step="next")) == {
        "type": "urn:sidecar:problem:bad-value",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "what",
        "why": "why",
        "next": "next",
        "request": None,
    }


@pytest.mark.parametrize("kind", problems.STATUSES)
def test_a_problem_without_a_reason_or_advice_gets_those_of_its_status(kind: str) -> None:
    found = body(Problem(kind, "what"))
    assert found["why"]
    assert found["next"]


def test_a_problem_names_the_request_that_it_answers() -> None:
    with request_id.using("ab12"):
        assert body(Problem("no-file", "what"))["request"] == "ab12"


def test_the_kind_is_left_for_the_log() -> None:
    async def nothing(*_: Any) -> Any:
        return None

    scope: dict[str, Any] = {"type": "http"}
    asyncio.run(errors.ProblemResponse(problems.stopping())(scope, nothing, nothing))
    assert scope[errors.KIND] == "stopping"


def test_a_status_without_a_phrase_has_a_title_too() -> None:
    assert body(problems.client_gone())["title"] == "Client Closed Request"


@pytest.mark.parametrize("made", [problems.not_ready("loading"), problems.stopping()])
def test_a_refusal_for_now_says_when_to_come_again(made: Problem) -> None:
    assert made.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert int(errors.ProblemResponse(made).headers["retry-after"]) > 0


def test_what_the_framework_refuses_has_the_common_shape_and_its_headers() -> None:
    error = HTTPException(405, headers={"Allow": "GET"})
    answer = asyncio.run(errors.answer_known(REQUEST, error))
    assert answer.headers["allow"] == "GET"
    assert json.loads(bytes(answer.body))["type"] == "urn:sidecar:problem:wrong-method"
    with pytest.raises(HTTPException):
        asyncio.run(errors.answer_known(REQUEST, HTTPException(418, "a secret")))


def test_a_bug_is_answered_without_its_message() -> None:
    answer = asyncio.run(errors.answer_bug(asked(is_gone=False), ValueError("a secret")))
    assert answer.status_code == 500
    assert json.loads(bytes(answer.body))["why"] == "ValueError"
    assert b"secret" not in bytes(answer.body)


def test_a_failure_without_the_bundle_is_a_503_that_says_to_restart() -> None:
    answer = asyncio.run(errors.answer_bug(asked(is_gone=True), ImportError("a secret")))
    said = json.loads(bytes(answer.body))
    assert (answer.status_code, said["type"]) == (503, "urn:sidecar:problem:bundle-gone")
    assert "restart the service" in said["next"]
    assert answer.headers["retry-after"]
    assert b"secret" not in bytes(answer.body)


def test_an_exception_of_another_kind_is_not_swallowed() -> None:
    with pytest.raises(KeyError):
        asyncio.run(errors.answer_known(REQUEST, KeyError("x")))
