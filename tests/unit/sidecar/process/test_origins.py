from __future__ import annotations

import pytest

from sidecar.errors import UsageError
from sidecar.process.origins import origin_of


@pytest.mark.parametrize(
    "origin",
    [
        "app://obsidian.md",
        "tauri://localhost",
        "http://tauri.localhost",
        "http://localhost:3000",
        "https://app.example",
        "http://127.0.0.1:5173",
        "http://[::1]:3000",
        "vscode-webview://0b1c2d3e",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "safari-web-extension://E5A6F9C2-0B1C-4D3E",
        "file://",
    ],
)
def test_an_origin_is_taken_as_browsers_send_it(origin: str) -> None:
    assert origin_of(origin) == origin


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://localhost:3000/", "http://localhost:3000"),
        ("https://app.example/index.html?a=b#c", "https://app.example"),
        ("HTTP://localhost:3000", "http://localhost:3000"),
        ("http://LocalHost:3000", "http://localhost:3000"),
        ("App://obsidian.md", "app://obsidian.md"),
        ("localhost:3000", "http://localhost:3000"),
        ("app.example", "http://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("http://user:secret@app.example", "http://app.example"),
        (" http://localhost:3000\n", "http://localhost:3000"),
        ("file:///home/someone/page.html", "file://"),
    ],
)
def test_another_spelling_is_refused_with_the_one_that_is_meant(given: str, meant: str) -> None:
    with pytest.raises(UsageError) as refused:
        origin_of(given)
    assert refused.value.next_step == f"--allow-origin {meant}"
    assert refused.value.why
    assert "secret" not in refused.value.render()


@pytest.mark.parametrize("given", ["*", "null", "NULL", "http://*.example", "*://a", "http://a:*"])
def test_no_origin_stands_for_more_than_one(given: str) -> None:
    with pytest.raises(UsageError) as refused:
        origin_of(given)
    assert refused.value.why
    assert "--allow-origin http://localhost:3000" in refused.value.next_step


@pytest.mark.parametrize(
    "given",
    [
        "",
        "://",
        "http://",
        "http://:80",
        "http://a b",
        "http://a:123456",
        "http://a:65536",
        "http://é",
        "\x1b",
    ],
)
def test_what_is_no_origin_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(UsageError) as refused:
        origin_of(given)
    assert "--allow-origin http://localhost:3000" in refused.value.next_step
    assert refused.value.what.isprintable()
