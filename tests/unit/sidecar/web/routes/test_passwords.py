from __future__ import annotations

import base64
import json
import logging
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.settings import Settings
from sidecar.web import schemas
from tests.support.answered import problem
from tests.support.casepdf import LEASE, locked
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORD = "Zauberwort-öffne"
LOCKED = locked(cipher="RC4-128", password=WORD)
ENCODED = base64.b64encode(WORD.encode()).decode()
PDF = {"content-type": "application/pdf"}
HEADER = "X-Document-Password"


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "a.pdf").write_bytes(LOCKED)
    made = Served(Settings(allow_dirs=(tmp_path.resolve(),)))
    yield made
    made.close()


def upload(served: Served, headers: Any, query: str = "") -> Any:
    path = f"/embed-file/upload?{query}"
    sent = [*PDF.items(), *headers]
    return served.request("POST", path, content=LOCKED, headers=sent)


def test_a_password_opens_a_file_and_an_upload(reading: Served, tmp_path: Path) -> None:
    asked = {"path": str(tmp_path / "a.pdf"), "password": WORD}
    for answer in (reading.post("/embed-file", asked), upload(reading, [(HEADER, ENCODED)])):
        assert all(line in " ".join(answer.json()["chunks"]) for line in LEASE[-1:])


def test_no_password_and_a_wrong_one_are_told_apart(reading: Served, tmp_path: Path) -> None:
    path = str(tmp_path / "a.pdf")
    wrong = base64.b64encode(b"another").decode()
    kinds = [
        problem(answer, 422)["type"].rpartition(":")[2]
        for answer in (
            reading.post("/embed-file", {"path": path}),
            upload(reading, []),
            reading.post("/embed-file", {"path": path, "password": "another"}),
            upload(reading, [(HEADER, wrong)]),
        )
    ]
    assert kinds == ["document-encrypted"] * 2 + ["document-password"] * 2


@pytest.mark.parametrize(
    "values", [["no base64!"], [base64.b64encode(b"\xff").decode()], [ENCODED, ENCODED], ["a"]]
)
def test_a_header_that_is_no_password_is_422_by_its_name(served: Served, values: Any) -> None:
    refused = problem(upload(served, [(HEADER, value) for value in values]), 422)
    assert refused["detail"].startswith(f"{HEADER}: ")


def test_a_password_in_a_query_is_refused_and_says_where_it_belongs(served: Served) -> None:
    for name in ("password", "Password", "x-document-password"):
        refused = problem(upload(served, [], f"{name}={WORD}"), 422)
        assert refused["detail"].startswith("password: ")
        assert HEADER in refused["next"]


def test_a_password_is_documented_and_in_no_query(served: Served) -> None:
    paths = served.get("/openapi.json").json()["paths"]
    given = {p["name"]: p["in"] for p in paths["/embed-file/upload"]["post"]["parameters"]}
    assert given[HEADER] == "header"
    assert "password" not in given
    body = paths["/embed-file"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["password"]["writeOnly"] is True


def test_a_password_is_seen_nowhere(
    reading: Served,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "httpx2")  # the client's own
    started: list[Any] = []

    start = subprocess.Popen.__init__

    def record(process: Any, *given: Any, **options: Any) -> None:
        started.append((given, options))
        start(process, *given, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", record)
    path = str(tmp_path / "a.pdf")
    long = WORD * 100
    answers = [
        reading.post("/embed-file", {"path": path, "password": WORD}),
        reading.post("/embed-file", {"path": path, "password": f"{WORD}!"}),
        reading.post("/embed-file", {"path": path, "password": [WORD]}),
        reading.post("/embed-file", {"path": path, "password": long}),
        reading.post("/embed-file", {"path": f"{path}/none", "password": WORD}),
        upload(reading, [(HEADER, ENCODED)]),
        upload(reading, [(HEADER, ENCODED), (HEADER, ENCODED)]),
        upload(reading, [(HEADER, WORD.encode())]),
        upload(reading, [(HEADER, base64.b64encode(long.encode()).decode())]),
        upload(reading, [], f"password={WORD}"),
    ]
    assert [answer.status_code for answer in answers] == [200, *[422] * 3, 404, 200, *[422] * 4]
    out, err = capfd.readouterr()
    shown = [answer.text + json.dumps(dict(answer.headers)) for answer in answers]
    shown += [reading.get("/metrics").text, caplog.text, out, err, repr(started)]
    assert len(started) > 1
    asked = schemas.FileOptions(password=WORD)  # type: ignore[arg-type]
    shown += [repr(asked), str(asked), asked.model_dump_json()]
    secrets = [WORD, ENCODED, json.dumps(WORD)[1:-1], "Zauberwort", ENCODED[:12]]
    assert [secret for secret in secrets for text in shown if secret in text] == []
