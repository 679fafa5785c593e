from __future__ import annotations

from pathlib import Path

import pytest

from bundler.artifacts.network import Network
from bundler.artifacts.sources import Indexes, configured_indexes, configured_network, default_index
from bundler.errors import UsageError

OPTIONS = {
    "find-links": "/env/wheels",
    "extra-index-url": "\nhttps://one.example/simple\nhttps://two.example/simple",
    "index-url": "https://install.example/simple",
}


def test_lists_are_split_and_keep_their_order(tmp_path: Path) -> None:
    assert configured_indexes(OPTIONS, tmp_path) == Indexes(
        index_urls=(
            "https://install.example/simple",
            "https://one.example/simple",
            "https://two.example/simple",
        ),
        find_links=("/env/wheels",),
    )


def test_where_nothing_is_configured_the_finders_own_index_is_asked(tmp_path: Path) -> None:
    found = configured_indexes({"extra-index-url": "https://extra.example/simple"}, tmp_path)
    assert found.index_urls == (default_index(), "https://extra.example/simple")
    assert default_index().startswith("https://")


@pytest.mark.parametrize("spelling", ["1", "true"])
def test_no_index_leaves_only_the_find_links(tmp_path: Path, spelling: str) -> None:
    options = {"no-index": spelling, "index-url": "https://a.example", "find-links": "/w /x"}
    assert configured_indexes(options, tmp_path) == Indexes(find_links=("/w", "/x"))


def test_pdms_sources_come_after_pips(tmp_path: Path) -> None:
    (tmp_path / "pdm.toml").write_text(
        """
        [pypi]
        url = "https://main.example/simple"
        verify_ssl = true
        [pypi.torch]
        url = "file:///wheels"
        type = "find_links"
        [pypi.private]
        url = "https://private.example:8443/simple"
        username = "me@work"
        password = "p/w"
        """
    )
    found = configured_indexes({"find-links": "/pip"}, tmp_path)
    assert found.find_links == ("/pip", "file:///wheels")
    assert found.index_urls == (
        "https://main.example/simple",
        "https://me%40work:p%2Fw@private.example:8443/simple",
    )
    assert "p%2Fw" not in repr(found)


@pytest.mark.parametrize(
    "text", ["[pypi", 'pypi = "x"', "[pypi]\nurl = '\xff'", "[pypi]\nurl = 'https://['"]
)
def test_a_pdm_toml_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "pdm.toml").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"pdm\.toml"):
        configured_indexes({}, tmp_path)


@pytest.mark.parametrize("option", ["index-url", "extra-index-url", "find-links"])
def test_an_address_that_is_none_is_a_usage_error(tmp_path: Path, option: str) -> None:
    with pytest.raises(UsageError, match="an address of pip's configuration is none") as caught:
        configured_indexes({option: "https://me:s3cret@[x"}, tmp_path)
    assert "s3cret" not in caught.value.render()


def test_a_project_without_sources_of_its_own_adds_none(tmp_path: Path) -> None:
    (tmp_path / "pdm.toml").write_text("[venv]\nin_project = true\n")
    assert configured_indexes({}, tmp_path).index_urls == (default_index(),)


def test_certificates_proxy_and_trusted_hosts_are_taken_over() -> None:
    options = {"cert": "/ca.pem", "proxy": "http://proxy:1", "trusted-host": "a b:8"}
    options |= {"client-cert": "/mine.pem", "keyring-provider": "subprocess"}
    network = configured_network(options, Network(tries=2))
    assert network == Network(
        tries=2,
        ca_bundle=Path("/ca.pem"),
        client_certificate=Path("/mine.pem"),
        proxy="http://proxy:1",
        asks_keyring=True,
        trusted_hosts=("a", "b:8"),
    )
    assert configured_network({}, Network()) == Network()
