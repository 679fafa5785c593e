"""What is refused of /embed is refused of every dialect's route, in that dialect's form."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.settings import Limits, Settings
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx2 import Response

ECHO = "secret"  # is in what is sent, and never in what is answered
JSON = {"content-type": "application/json"}
PROBLEM = {"type", "title", "status", "detail", "why", "next", "request"}


@dataclass(frozen=True)
class Place:
    """A route that takes texts: where one of them stands, and how what is wrong is told.

    `keys` are those of a refusal, `statuses` what the dialect has for ours.
    """

    path: str
    before: bytes
    after: bytes
    keys: set[str]
    statuses: dict[int, int]

    def body(self, item: bytes, *, beside: bytes = b"") -> bytes:
        """Return a body whose text is the JSON `item`; a comma and fields may be `beside` it."""
        return b"{" + self.before + item + self.after + beside + b"}"

    def refused(self, answer: Response, status: int) -> str:
        """Return the answer's words; it must have the form of the dialect for `status` of ours."""
        assert answer.status_code == self.statuses.get(status, status), answer.text
        told = answer.json()
        assert told.keys() == self.keys, answer.text
        ours = "application/problem+json" if self.keys == PROBLEM else "application/json"
        assert answer.headers["content-type"] == ours
        assert ECHO not in answer.text
        return str(told.get("detail") or told["error"])


OPENAI, OLLAMA, TEI = {"error"}, {"error"}, {"error", "error_type"}
BY_OLLAMA = {422: 400, 429: 503}
COMPARED = b'"inputs":{"source_sentence":"a","sentences":['
EMBED = Place("/embed", b'"texts":[', b"]", PROBLEM, {})
SHARED = {
    "/embed",
    "/",
}  # with our own requests, whose form is that of errors until the body is read
PLACES = {
    "openai": Place("/v1/embeddings", b'"input":[', b"]", OPENAI, {422: 400}),
    "openai, one text": Place("/embeddings", b'"input":', b"", OPENAI, {422: 400}),
    "ollama": Place("/api/embed", b'"input":[', b"]", OLLAMA, BY_OLLAMA),
    "ollama, one text": Place("/api/embeddings", b'"prompt":', b"", OLLAMA, BY_OLLAMA),
    "tei": Place("/embed", b'"inputs":[', b"]", TEI, {}),
    "tei, at its root": Place("/", b'"inputs":[', b"]", TEI, {}),
    "tei, compared": Place("/similarity", COMPARED, b"]}", TEI, {}),
    "embed": EMBED,
}
# Of those, and where texts are read without being embedded.
READ = {**PLACES, "tei, tokens": Place("/tokenize", b'"inputs":[', b"]", TEI, {})}
LISTS = [place for place in PLACES.values() if b"[" in place.before]
# A text, what is beside it, and what /embed says.
BODIES: dict[str, tuple[bytes, bytes, int]] = {
    "half a pair": (rb'"secret \ud800"', b"", 422),
    "half a pair in a key": (b'"a"', rb',"secret\udfff":1', 422),
    "NaN": (b'"a"', b',"secret":NaN', 422),
    "infinity": (b'"secret"', b',"a":-Infinity', 422),
    "too large a number": (b'"secret"', b',"a":1e400', 422),
    "too many digits": (b'"secret"', b',"a":' + b"9" * 5_000, 400),
    "no UTF-8": (b'"secret \xff"', b"", 400),
    "a key twice": (b'"a"', b',"secret":1,"secret":2', 400),
    "depth": (b'"a"', b',"a":' + b'{"secret":' * 100_000, 400),
    "depth of lists": (b"[" * 100_000, b"", 400),
    "no end": (b'"secret', b"", 400),
    "a control": (b'"secret \x01"', b"", 400),
    "a number": (b"1.5", b"", 422),
    "a boolean": (b"true", b"", 422),
    "an object": (b'{"secret":1}', b"", 422),
    "token ids": (b"[1,2]", b"", 422),
}
# Whole bodies, and what /embed says.
WHOLE: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "a word": (b"secret", 400),
    "a list": (b'["secret"]', 422),
    "a text": (b'"secret"', 422),
    "null": (b"null", 422),
    "UTF-16": ('{"texts":["secret"]}'.encode("utf-16"), 400),
    "a mark": (b'\xef\xbb\xbf{"texts":["secret"]}', 400),
    "many values": (b'{"secret":[' + b"0," * 200_000 + b"0]}", 422),
    "many texts": (b'{"secret":[' + b'"a",' * 200_000 + b'"a"]}', 422),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


@pytest.mark.parametrize("place", READ.values(), ids=READ)
def test_what_no_json_text_should_carry_is_refused_without_echo(
    shared: Served, place: Place
) -> None:
    for item, beside, status in BODIES.values():
        body = place.body(item, beside=beside)
        place.refused(shared.request("POST", place.path, content=body, headers=JSON), status)


@pytest.mark.parametrize("place", READ.values(), ids=READ)
def test_a_body_that_is_no_object_is_refused_without_echo(shared: Served, place: Place) -> None:
    place = EMBED if place.path in SHARED else place  # it has no key that would tell
    for body, status in WHOLE.values():
        place.refused(shared.request("POST", place.path, content=body, headers=JSON), status)


@pytest.mark.parametrize("path", ["/api/show", "/api/pull"])
def test_a_body_with_a_name_is_refused_without_echo(shared: Served, path: str) -> None:
    place = Place(path, b'"model":', b"", OLLAMA, {422: 400})
    bodies = [(place.body(item, beside=beside), status) for item, beside, status in BODIES.values()]
    for body, status in (*bodies, *WHOLE.values(), (place.body(b'"' + b"a" * 70_000 + b'"'), 413)):
        expected = 413 if len(body) > 1 << 16 else status
        answer = shared.request("POST", path, content=body, headers=JSON)
        place.refused(answer, expected)


@pytest.mark.parametrize(
    "path", [f"/api/{name}" for name in ("generate", "chat", "create", "copy", "push")]
)
def test_what_is_not_done_is_refused_whatever_the_body(shared: Served, path: str) -> None:
    bodies = [item for item, _, _ in BODIES.values()] + [body for body, _ in WHOLE.values()]
    for body in bodies:
        answer = shared.request("POST", path, content=body, headers=JSON)
        assert answer.status_code == (400 if path in ("/api/generate", "/api/chat") else 405)
        assert answer.json().keys() == {"error"}
        assert ECHO not in answer.text


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_missing_and_a_wrong_token_are_refused_alike(place: Place) -> None:
    ours = EMBED if place.path in SHARED else place
    locked = Served(Settings(token=b"secret-of-sixteen"))
    same = JSON | {"x-request-id": "same"}
    body = place.body(b'"a"')
    answers = [
        locked.request("POST", path, content=body, headers=same | shown)
        for path, shown in (
            (place.path, {}),
            (place.path, {"authorization": "Bearer secret"}),
            (place.path, {"authorization": "Basic secret-of-sixteen"}),
            (f"{place.path}?token=secret-of-sixteen", {}),
            (place.path, {"api-key": "secret-of-sixteen"}),
        )
    ]
    for answer in answers:
        ours.refused(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert len({answer.content for answer in answers}) == 1
    shown = {"authorization": "Bearer secret-of-sixteen"}
    answer = locked.request("POST", place.path, content=body, headers=same | shown)
    assert len(vectors(answer)) == 1
    locked.close()


@pytest.mark.parametrize("place", READ.values(), ids=READ)
def test_an_encoded_body_and_a_large_one_are_refused_unread(place: Place) -> None:
    small = Served(Settings(limits=Limits(max_body_bytes=100)))
    ours = EMBED if place.path in SHARED else place  # no key of the body was seen
    for encoding in ("gzip", "br", "secret"):
        headers = JSON | {"content-encoding": encoding}
        answer = small.request("POST", place.path, content=place.body(b'"a"'), headers=headers)
        ours.refused(answer, 415)
    large = place.body(b'"' + b"a" * 100 + b'"')
    answers = [small.request("POST", place.path, content=large, headers=JSON)]

    async def parts() -> Any:
        yield large[:60]
        yield large[60:]

    answers.append(small.request("POST", place.path, content=parts(), headers=JSON))
    for answer in answers:
        assert "100 bytes" in ours.refused(answer, 413)
        assert answer.headers["connection"] == "close"
    small.close()


@pytest.mark.parametrize("place", READ.values(), ids=READ)
def test_texts_over_the_limits_are_refused(place: Place) -> None:
    small = Served(Settings(limits=Limits(max_texts=2, max_text_chars=5)))
    assert "5 characters" in place.refused(
        small.request("POST", place.path, content=place.body(b'"abcdef"'), headers=JSON), 422
    )
    if place in LISTS:
        three = place.body(b'"a","b","c"')
        place.refused(small.request("POST", place.path, content=three, headers=JSON), 422)
    small.close()


@pytest.mark.parametrize("place", READ.values(), ids=READ)
def test_half_a_pair_in_a_large_body_is_told_by_its_place(shared: Served, place: Place) -> None:
    body = place.body(b'"' + b"a" * (1 << 17) + rb' \ud800"')
    said = place.refused(shared.request("POST", place.path, content=body, headers=JSON), 422)
    name = place.before.split(b'"')[1].decode()
    assert f"{name}.0: it has half" in said or f"{name}: it has half" in said


STRANGE = (
    *("\0", " \t\n", "\U0001f600" * 3, "\u05e9\u05dc\u05d5\u05dd", "\u200d\u202e"),
    "x" * 1_000_000,
)


def vectors(answer: Response) -> np.ndarray[Any, Any]:
    """Return the rows of an answer of any dialect."""
    assert answer.status_code == 200, answer.text
    match answer.json():
        case {"data": list(found)}:
            rows = [one["embedding"] for one in found]
        case {"embedding": row}:
            rows = [row]
        case {"vectors": rows} | {"embeddings": rows} | list(rows):
            pass
        case other:
            pytest.fail(str(other))
    return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_strange_texts_have_finite_unit_vectors(shared: Served, place: Place) -> None:
    for text in STRANGE:
        body = place.body(json.dumps(text).encode())
        answer = shared.request("POST", place.path, content=body, headers=JSON)
        found = vectors(answer)
        # A cosine, or a row.
        lengths = np.linalg.norm(found, axis=1) if found.ndim > 1 else np.isfinite(found)
        assert lengths == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("place", LISTS, ids=lambda one: one.path)
def test_ten_thousand_texts_are_split_by_the_service(shared: Served, place: Place) -> None:
    def ask(count: int) -> Response:
        body = place.body(b'"a",' * (count - 1) + b'"a"')
        return shared.request("POST", place.path, content=body, headers=JSON)

    assert len(vectors(ask(10_000))) == 10_000
    place.refused(ask(200_000), 422)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_what_the_engine_fails_at_is_told(place: Place) -> None:
    poisoned = Served()
    poisoned.engine.poison = poisoned.engine.token("poison")
    body = place.body(b'"a poison b"')
    ask = {"content": body, "headers": JSON}
    answer = poisoned.request("POST", place.path, **ask)
    assert "gives no vector" in place.refused(answer, 422)
    poisoned.engine.failure = MemoryError()
    place.refused(poisoned.request("POST", place.path, **ask), 507)
    poisoned.engine.poison = None
    poisoned.engine.bad_value = float("nan")
    place.refused(poisoned.request("POST", place.path, **ask), 503)

    def explode(*_: object, **__: object) -> None:
        raise RuntimeError(ECHO)

    poisoned.engine.tokenize = explode  # type: ignore[method-assign,assignment]
    place.refused(poisoned.request("POST", place.path, **ask), 500)
    poisoned.encoder.refuse_new()
    poisoned.close()


@pytest.mark.parametrize("place", READ.values(), ids=READ)
def test_who_asks_too_early_or_too_late_is_told_so(place: Place) -> None:
    ours = EMBED if place.path in SHARED else place
    ask = {"content": place.body(b'"a"'), "headers": JSON}
    loading = Served(is_loaded=False)
    early = loading.request("POST", place.path, **ask)
    ours.refused(early, 503)
    loading.close()
    ending = Served()
    ending.encoder.refuse_new()
    late = ending.request("POST", place.path, **ask)
    ours.refused(late, 503)
    ending.close()
    assert (early.headers["retry-after"], late.headers["retry-after"]) == ("1", "5")


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_full_queue_says_when_to_ask_again(place: Place) -> None:
    full = Served(Settings(limits=Limits(max_queued_tokens=6)))
    full.engine.gate.clear()
    body = place.body(b'"a b"')

    async def work() -> list[Response]:
        asked = [full.client.post(place.path, content=body, headers=JSON) for _ in range(6)]
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.to_thread(full.engine.entered.wait, 30)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        full.engine.gate.set()
        return list(await asyncio.gather(*tasks))

    answers = full.run(work())
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < len(answers)
    for answer in refused:
        place.refused(answer, 429)
        assert int(answer.headers["retry-after"]) > 0
    full.close()


@pytest.mark.parametrize("place", READ.values(), ids=READ)
def test_another_method_is_refused(shared: Served, place: Place) -> None:
    ours = EMBED if place.path in SHARED else place
    for method in ("GET", "TRACE", "PATCH", "BREW", "OPTIONS"):
        if (method, place.path) == ("GET", "/"):
            continue  # the page's
        answer = shared.request(method, place.path)
        ours.refused(answer, 405)
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "name",
    [
        "secret",
        "%00secret",
        "%ff",
        "..%2F..%2Fsecret",
        "secret/" * 500,
        "\u65e5\u672c",
        "%F0%9F%98",
    ],
    ids=range(7),
)
def test_a_name_in_the_path_is_compared_and_no_more(shared: Served, name: str) -> None:
    answer = shared.get(f"/v1/models/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert ECHO not in answer.text
