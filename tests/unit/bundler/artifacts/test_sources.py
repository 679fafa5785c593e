from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import hf_hub_url

from bundler.artifacts.network import Network
from bundler.artifacts.sources import Indexes, IndexSource, Location, Miss, UrlSource, hub_file
from bundler.digests import Artifact, Digest
from bundler.errors import UsageError
from tests.support.badserver import BadServer, redirect, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIGEST = Digest.of_bytes(b"wheel")
RELEASE = "https://releases.example/org/standalone/releases/download"
RUNTIME = f"{RELEASE}/20260101/cpython-3.11%2B1.tar.gz"
QUICK = Network(tries=3, first_wait_s=0.0)
HTML = "application/vnd.pypi.simple.v1+html"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BadServer]:
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    with BadServer(content_type=HTML) as server:
        yield server


def artifact(name: str, digest: Digest = DIGEST) -> Artifact:
    return Artifact(name=name, digest=digest)


def page(*links: str) -> bytes:
    return "".join(f'<a href="{link}">a file</a>' for link in links).encode()


def index(*urls: str, network: Network = QUICK, find_links: tuple[str, ...] = ()) -> IndexSource:
    return IndexSource(Indexes(index_urls=urls, find_links=find_links), network)


def test_a_fixed_address_is_the_one_place() -> None:
    assert list(UrlSource(url=RUNTIME).locate(artifact("cpython"))) == [Location(url=RUNTIME)]


def places(source: UrlSource) -> list[Location]:
    found = list(source.locate(artifact("cpython")))
    assert all(isinstance(place, Location) for place in found)
    return [place for place in found if isinstance(place, Location)]


def test_credentials_of_a_mirror_go_into_a_header_that_is_not_shown() -> None:
    (place,) = UrlSource(url="https://me:secret@m.example/c").locate(artifact("c"))
    assert isinstance(place, Location)
    assert "secret" not in place.url
    assert place.headers["Authorization"].startswith("Basic ")
    assert "Basic" not in repr(place)


def test_a_token_goes_to_its_own_origin_alone_and_is_not_shown() -> None:
    source = UrlSource(url=RUNTIME, tokens={"https://releases.example": " t0ken\n"})
    first, second = source.locate(artifact("cpython"))
    assert isinstance(first, Location)
    assert first.headers == {"Authorization": "Bearer t0ken"}
    assert second == Location(url=RUNTIME)
    assert "t0ken" not in repr((source, first))
    for other in ("https://m.example", "http://releases.example", "https://releases.example:8443"):
        mirrored = UrlSource(url=f"{other}/cpython", tokens=source.tokens)
        assert all("Bearer" not in str(dict(place.headers)) for place in places(mirrored))
    assert places(UrlSource(url=RUNTIME, tokens={"https://releases.example": ""})) == [second]


def test_a_file_of_the_hub_is_named_by_repository_revision_and_path() -> None:
    endpoint, revision, token = "http://127.0.0.1:1/", "a" * 40, "hf_secret\n"
    place = hub_file(endpoint, "org/name", revision, "1_Pooling/a config.json", token)
    assert place.url == f"http://127.0.0.1:1/org/name/resolve/{revision}/1_Pooling/a%20config.json"
    assert place.url == hf_hub_url(
        "org/name", "1_Pooling/a config.json", revision=revision, endpoint=endpoint.rstrip("/")
    )
    assert place.headers == {"Authorization": "Bearer hf_secret"}
    assert "secret" not in repr(place)
    assert list(place.locate(artifact("config.json"))) == [place]
    assert hub_file(endpoint, "org/name", revision, "x", None).headers == {}


@pytest.mark.parametrize(
    "name",
    [
        "torch-2.13.0-cp311-cp311-macosx_14_0_arm64.whl",
        "torch-2.13.0-cp311-cp311-win_amd64.whl",
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.13.0-cp299-cp299-manylinux_2_28_riscv64.whl",
    ],
)
def test_a_wheel_for_any_platform_is_found_by_its_exact_name(tmp_path: Path, name: str) -> None:
    for other in ("torch-2.13.0-py3-none-any.whl", "torch-2.12.0-cp311-cp311-win_amd64.whl", name):
        (tmp_path / other).write_bytes(b"wheel")
    (place,) = index(find_links=(str(tmp_path),)).locate(artifact(name))
    assert isinstance(place, Location)
    assert place.url == (tmp_path / name).as_uri()


def test_a_local_index_is_a_folder_of_pages(tmp_path: Path) -> None:
    folder = tmp_path / "an index" / "my-package"
    folder.mkdir(parents=True)
    name = "My_Package-1.0-py3-none-any.whl"
    (folder / "index.html").write_bytes(page(f"../../files/{name}"))
    (place,) = index((tmp_path / "an index").as_uri()).locate(artifact(name))
    assert isinstance(place, Location)
    assert place.url == (tmp_path / "files" / name).as_uri()


def test_local_places_are_asked_before_any_socket_is_opened(
    tmp_path: Path, server: BadServer
) -> None:
    name = "demo-1.0-py3-none-any.whl"
    (tmp_path / name).write_bytes(b"wheel")
    places = index(f"{server.root}/simple", find_links=(tmp_path.as_uri(),)).locate(artifact(name))
    assert isinstance(next(places), Location)
    assert server.seen == []
    places.close()  # type: ignore[attr-defined]


def test_a_yanked_wheel_that_is_locked_is_still_found(server: BadServer) -> None:
    name = "demo-1.0-py3-none-any.whl"
    server.add("simple/demo/", f'<a href="/f/{name}" data-yanked="bad">x</a>'.encode())
    (place,) = index(f"{server.root}/simple").locate(artifact(name))
    assert place == Location(url=f"{server.root}/f/{name}")


def test_a_json_index_is_understood(server: BadServer) -> None:
    name = "demo-1.0+local-cp311-cp311-win_amd64.whl"
    server.content_type = "application/vnd.pypi.simple.v1+json"
    listed = [{"url": f"../../f/{name.replace('+', '%2B')}", "requires-python": "<3"}]
    server.add("simple/demo/", json.dumps({"files": listed}).encode())
    (place,) = index(f"{server.root}/simple/").locate(artifact(name))
    assert place == Location(url=f"{server.root}/f/{name.replace('+', '%2B')}")


@pytest.mark.parametrize(
    "text",
    [
        *(b"[]", b"5", b'{"files": null}', b'{"files": [1]}', b"[" * 100_000),
        b'{"files": [{"url": 5}]}',
        b'{"files": [{"url": "/f/%s", "hashes": 5}]}',
        b'{"files": [{"url": "/f/%s", "upload-time": 5}]}',
    ],
)
def test_a_json_page_of_other_types_is_no_page(server: BadServer, text: bytes) -> None:
    name = "demo-1.0-py3-none-any.whl"
    server.content_type = "application/vnd.pypi.simple.v1+json"
    source = index(server.add("simple/demo/", text.replace(b"%s", name.encode()))[: -len("demo/")])
    (place,) = source.locate(artifact(name))
    assert isinstance(place, Miss)
    assert place.reason == "its page is none of an index"
    # What one page says is not said of the next.
    (place,) = source.locate(artifact("other-1.0-py3-none-any.whl"))
    assert isinstance(place, Miss)
    assert place.reason == "has no such file"


def test_an_index_that_declares_another_digest_is_passed_over(server: BadServer) -> None:
    name = "demo-1.0-py3-none-any.whl"
    other = Digest.of_bytes(b"other").sha256
    server.add("one/demo/", page(f"/f/{name}#sha256={other}"))
    server.add("two/demo/", page(f"/g/{name}#sha256={DIGEST.sha256}"))
    miss, place = index(f"{server.root}/one", f"{server.root}/two").locate(artifact(name))
    assert isinstance(miss, Miss)
    assert miss.sha256 == other
    assert place == Location(url=f"{server.root}/g/{name}")


def test_every_place_asked_in_vain_is_told_with_its_reason(
    tmp_path: Path, server: BadServer
) -> None:
    server.add("private/demo/", b"", forever=status(403))
    source = index(
        f"{server.root}/empty",
        f"{server.root}/private",
        "http://127.0.0.1:9/simple",
        find_links=(str(tmp_path), str(tmp_path / "gone")),
    )
    places = list(source.locate(artifact("demo-1.0-py3-none-any.whl")))
    assert [place.reason for place in places if isinstance(place, Miss)] == [
        "has no such file",
        "has no such file",
        "has no such file",
        "HTTP 403",
        "no connection ([Errno 111] Connection refused), 3 times",
    ]


def test_a_place_out_of_reach_is_not_tried_for_the_next_wheel(server: BadServer) -> None:
    server.add("simple/demo/", b"", forever=status(503))
    source = index(f"{server.root}/simple")
    for name in ("demo-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl"):
        (miss,) = source.locate(artifact(name))
        assert isinstance(miss, Miss)
        assert miss.reason == "HTTP 503, 3 times"
    assert len(server.seen) == 3


def test_a_busy_index_is_asked_again_as_late_as_it_wants(server: BadServer) -> None:
    name = "demo-1.0-py3-none-any.whl"
    server.add("simple/demo/", page(f"/f/{name}"), status(429, Retry_After="7"), status(502))
    waits: list[float] = []
    (place,) = index(f"{server.root}/simple").locate(artifact(name), waits.append)
    assert isinstance(place, Location)
    assert waits == [7.0, 0.0]


def test_credentials_reach_the_index_and_its_files_and_nobody_else(server: BadServer) -> None:
    name = "demo-1.0-py3-none-any.whl"
    with BadServer(content_type=HTML) as elsewhere:
        elsewhere.add("demo/", page(f"{server.root}/f/{name}", f"{elsewhere.root}/f/{name}"))
        server.add("simple/demo/", b"", redirect(f"{elsewhere.root}/demo/"))
        private = server.root.replace("//", "//me:secret@")
        ours, theirs = index(f"{private}/simple").locate(artifact(name))
        assert server.seen[0].authorization == "Basic bWU6c2VjcmV0"
        assert elsewhere.seen[0].authorization is None
    assert isinstance(ours, Location)
    assert ours.headers == {"Authorization": "Basic bWU6c2VjcmV0"}
    assert "secret" not in ours.url
    assert isinstance(theirs, Location)
    assert theirs.headers == {}


def test_no_message_holds_a_credential(server: BadServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    server.add("simple/demo/", b"", forever=status(401))
    private = server.root.replace("//", "//me:secret@")
    (miss,) = index(f"{private}/simple").locate(artifact("demo-1.0-py3-none-any.whl"))
    assert isinstance(miss, Miss)
    assert miss.reason == "HTTP 401"
    assert "secret" not in repr(miss)
    assert "secret" not in caplog.text


def test_what_is_no_wheel_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"demo-1\.0\.tar\.gz"):
        list(index().locate(artifact("demo-1.0.tar.gz")))
