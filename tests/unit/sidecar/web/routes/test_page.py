"""The page at /: to whom it is sent, with what headers, and what its files may not say."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from sidecar.settings import Settings
from sidecar.web.routes import page
from tests.support.answered import problem
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "0123456789abcdef"  # noqa: S105 - of these services alone
CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
BROWSER = {"accept": CHROMIUM}
SAID = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
TYPES = {
    "/": "text/html; charset=utf-8",
    "/page/page.css": "text/css; charset=utf-8",
    "/page/page.js": "text/javascript; charset=utf-8",
}
SOURCES = {
    name: (page.FOLDER / name).read_text(encoding="utf-8") for name, _ in page.FILES.values()
}


@pytest.fixture
def locked() -> Iterator[Served]:
    made = Served(Settings(token=TOKEN.encode()))
    yield made
    made.close()


@pytest.mark.parametrize(
    "accept",
    [
        CHROMIUM,
        "text/html",
        "Text/HTML;q=0.5",
        "text/html, text/plain",
        "text/html;q=0.9, text/plain;q=0.5, */*",
        "text/html, */*",
        "application/json, text/html;q=0.1",
    ],
)
def test_a_browser_gets_the_page(served: Served, accept: str) -> None:
    answer = served.get("/", headers={"accept": accept})
    assert answer.text == SOURCES["index.html"]


@pytest.mark.parametrize(
    "accept",
    [
        *("", "*/*", "text/*", "text/plain", "application/json", "application/xhtml+xml"),
        *("text/html;q=0", "text/html;q=0.4, */*;q=0.5", "text/plain, text/html;q=0.9"),
    ],
)
def test_a_program_gets_what_ollama_says(served: Served, accept: str) -> None:
    answer = served.get("/", headers={"accept": accept})
    assert answer.text == "Ollama is running"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert not answer.headers.keys() & SAID.keys()


@pytest.mark.parametrize("path", TYPES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_each_file_has_its_type_and_headers(served: Served, method: str, path: str) -> None:
    answer = served.request(method, path, headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPES[path]
    assert answer.headers["content-length"] == str(len(SOURCES[page.FILES[path][0]].encode()))
    assert answer.headers.items() >= SAID.items()
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_head_of_a_program_is_answered_as_before(served: Served) -> None:
    assert served.request("HEAD", "/").headers["content-length"] == str(len("Ollama is running"))


@pytest.mark.parametrize("path", ["//", "//page/page.js", "/page//page.css", "/page/page.js/"])
def test_more_slashes_make_no_difference(served: Served, path: str) -> None:
    answer = served.get(f"http://127.0.0.1:8421{path}", headers=BROWSER)
    assert answer.headers.items() >= SAID.items()


@pytest.mark.parametrize("path", TYPES)
def test_the_page_needs_no_token(locked: Served, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert locked.request(method, path, headers=BROWSER).headers["content-type"] == TYPES[path]
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert problem(locked.request(method, path, headers=BROWSER), 401)


def test_nothing_else_is_open_where_there_is_a_token(locked: Served) -> None:
    for path in ("/page", "/page/", "/page/index.html", "/page/../info", "/info", "/metrics"):
        assert locked.get(path, headers=BROWSER).status_code == 401
    assert locked.get("/").status_code == 401
    shown = {"authorization": f"Bearer {TOKEN}"}
    assert locked.get("/", headers=shown).text == "Ollama is running"
    assert locked.get("/page/index.html", headers=shown).status_code == 404


def test_the_page_is_the_same_whatever_is_served(served: Served, locked: Served) -> None:
    loading = Served(is_loaded=False)
    stopping = Served()
    stopping.encoder.refuse_new()
    asked = (served, locked, loading, stopping)
    try:
        for path in TYPES:
            answers = [one.get(path, headers=BROWSER) for one in asked]
            assert [answer.status_code for answer in answers] == [200] * len(asked)
            assert len({answer.content for answer in answers}) == 1
    finally:
        loading.close()
        stopping.close()


@pytest.mark.parametrize("path", TYPES)
def test_no_other_page_and_no_other_name_gets_it(served: Served, path: str) -> None:
    assert served.get(path, headers=BROWSER | {"host": "evil.example"}).status_code == 421
    assert served.get(path, headers=BROWSER | {"origin": "http://evil.example"}).status_code == 403
    assert served.get(path, headers=BROWSER | {"sec-fetch-site": "cross-site"}).status_code == 403
    assert served.get(path, headers=BROWSER | {"sec-fetch-site": "same-origin"}).status_code == 200


def test_the_page_posts_to_all_but_shutdown(served: Served) -> None:
    own = {"origin": "http://127.0.0.1:8421", "sec-fetch-site": "same-origin"}
    upload = {"content": b"one two", "headers": own | {"content-type": "text/plain"}}
    assert served.post("/embed", {"texts": ["one", "two"]}, headers=own).status_code == 200
    assert served.post("/embed-file/upload", **upload).status_code == 200
    problem(served.post("/shutdown", headers=own), 403)
    assert served.stops == 0


@pytest.mark.parametrize(
    "origin",
    [
        *("http://127.0.0.1", "http://127.0.0.1:8422", "http://localhost:8421"),
        *("https://127.0.0.1:8421", "http://127.0.0.1:8421/", "null", "http://evil.example"),
    ],
)
def test_a_page_from_elsewhere_posts_nothing(served: Served, origin: str) -> None:
    problem(served.post("/embed", {"texts": ["one"]}, headers={"origin": origin}), 403)


def test_a_file_is_read_once_and_outlives_the_bundle(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(page.FOLDER, tmp_path / "page")
    monkeypatch.setattr(page, "FOLDER", folder)
    page._read.cache_clear()
    assert served.get("/page/page.js").status_code == 200
    shutil.rmtree(folder)
    assert served.get("/page/page.js").status_code == 200
    assert served.get("/page/page.css").status_code == 500
    page._read.cache_clear()


def test_requests_for_files_are_counted_by_path(served: Served) -> None:
    served.get("/page/page.css")
    assert served.encoder.counts.requests["/page/page.css", 200] == 1


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_makes_no_html_and_keeps_nothing(name: str) -> None:
    refused = (
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "setHTML", "createContextualFragment"),
        *("document.write", "DOMParser", "eval(", "Function(", "import(", "javascript:"),
        *("Storage", "indexedDB", "cookie", "caches", "serviceWorker", "history.", "postMessage"),
        *("http:", "https:", "//cdn", "url(", "@import", "shutdown"),
    )
    assert [word for word in refused if word in SOURCES[name]] == []


def test_no_script_style_or_handler_is_inline() -> None:
    html = SOURCES["index.html"]
    assert re.findall(r"<script[^>]*>[^<]", html) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", html) == []
    assert (
        re.findall(r"<script[^>]*\stype=", html) == []
    )  # a module's GET has an Origin in Chromium
    assert set(re.findall(r'(?:src|href)="([^"]*)"', html)) == {"page/page.css", "page/page.js"}


def test_a_form_would_carry_nothing_into_an_address() -> None:
    assert re.findall(r'\s(?:name|action|method)="(?!viewport)', SOURCES["index.html"]) == []


def test_what_the_script_looks_for_is_in_the_page() -> None:
    wanted = set(re.findall(r"(?:byId|say|fill)\('([\w-]+)'", SOURCES["page.js"]))
    there = re.findall(r'\sid="([\w-]+)"', SOURCES["index.html"])
    assert wanted <= set(there)
    assert len(there) == len(set(there))


def test_the_page_is_small() -> None:
    assert sum(len(text.encode()) for text in SOURCES.values()) < 30 << 10
