from __future__ import annotations

import email.utils
import os
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx2
import pytest

from bundler.artifacts.network import (
    Credentials,
    Network,
    may_pass,
    reason,
    without_credentials,
)
from bundler.bootstrap.connection import shown
from bundler.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = Network(first_wait_s=1.0, longest_wait_s=30.0)


def test_waits_double_and_end_at_the_longest() -> None:
    assert [NETWORK.wait_s(failures) for failures in (1, 2, 3, 9)] == [1.0, 2.0, 4.0, 30.0]


@pytest.mark.parametrize(
    ("asked", "waited"), [("7", 7.0), ("9999", 30.0), ("0", 0.0), ("soon", 4.0), ("", 4.0)]
)
def test_the_server_is_obeyed_within_reason(asked: str, waited: float) -> None:
    assert NETWORK.wait_s(3, asked) == waited


def test_a_date_to_wait_for_is_understood() -> None:
    def after(**ahead: int) -> str:
        return email.utils.format_datetime(datetime.now(UTC) + timedelta(**ahead), usegmt=True)

    assert NETWORK.wait_s(1, after(hours=1)) == 30.0
    assert NETWORK.wait_s(1, after(hours=-1)) == 0.0


@pytest.mark.parametrize(
    ("url", "fit"),
    [
        ("https://me:secret@host:8/a/b.whl?sig=secret#secret", "https://host:8/a/b.whl"),
        ("https://host/a", "https://host/a"),
        ("file:///a/b", "file:///a/b"),
        ("/a/b", "/a/b"),
    ],
)
def test_what_is_shown_of_an_address_holds_no_secret(url: str, fit: str) -> None:
    assert shown(url) == fit


def test_only_the_credentials_leave_an_address() -> None:
    assert without_credentials("https://me:secret@host/a?b=c") == "https://host/a?b=c"


def test_the_settings_do_not_show_the_proxys_password() -> None:
    assert "secret" not in repr(Network(proxy="http://me:secret@proxy:3128"))


def test_credentials_go_to_their_own_host_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    credentials = Credentials(["https://me:s%40crt@index.example/simple"])
    assert credentials.header("https://index.example/files/a.whl") == {
        "Authorization": "Basic bWU6c0BjcnQ="
    }
    assert credentials.header("https://files.example/a.whl") == {}
    assert credentials.header("https://index.example:8443/a.whl") == {}


@pytest.mark.skipif(os.name == "nt", reason="a script stands in for the program")
def test_the_keyring_is_asked_once_where_pip_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    program = tmp_path / "keyring"
    # Its words are those that unearth and pip give: --mode=creds get SERVICE USER.
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\nprintf "me\\npw"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    urls = ["https://me@index.example/simple", "https://you:own@other.example/simple"]
    credentials = Credentials(urls, asks_keyring=True)
    for _ in range(2):
        assert credentials.header("https://index.example/files/a.whl") == {
            "Authorization": "Basic bWU6cHc="
        }
    assert credentials.header("https://other.example/a") == {"Authorization": "Basic eW91Om93bg=="}
    assert credentials.header("https://files.example/a.whl") == {}
    assert asked.read_text() == "--mode=creds get https://index.example/simple me\n"
    assert Credentials(urls).header("https://index.example/a") == {"Authorization": "Basic bWU6"}


def test_a_netrc_file_is_asked_at_the_time_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = Credentials()
    (tmp_path / "netrc").write_text("machine files.example login me password pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert credentials.header("https://files.example/a") == {"Authorization": "Basic bWU6cHc="}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (httpx2.ConnectTimeout("x"), "no connection within 10 s"),
        (httpx2.ReadTimeout("x"), "silent for 60 s"),
        (httpx2.ConnectError("refused"), "no connection (refused)"),
        (httpx2.ProxyError("407 Wanted"), "ProxyError: 407 Wanted"),
        (httpx2.RemoteProtocolError("x"), "the connection was cut"),
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (httpx2.LocalProtocolError("Illegal header value b'Bearer secret'"), "LocalProtocolError"),
    ],
)
def test_reasons_are_plain_and_hold_no_header(error: Exception, text: str) -> None:
    assert reason(error, Network()) == text


@pytest.mark.parametrize(
    ("error", "is_worth_it"),
    [
        (httpx2.ConnectError("refused"), True),
        (httpx2.ReadError("x"), True),
        (httpx2.ProxyError("503 Service Unavailable"), True),
        (httpx2.ProxyError("407 Proxy Authentication Required"), False),
        (httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), False),
        (httpx2.UnsupportedProtocol("x"), False),
        (httpx2.InvalidURL("x"), False),
    ],
)
def test_only_what_may_be_gone_in_a_moment_is_tried_again(
    error: Exception, *, is_worth_it: bool
) -> None:
    assert may_pass(error, reason(error, Network())) is is_worth_it


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    assert Network().verify().verify_mode is ssl.CERT_REQUIRED
    assert Network(ca_bundle=tmp_path).verify().verify_mode is ssl.CERT_REQUIRED
    none = tmp_path / "none.pem"
    for network in (Network(ca_bundle=none), Network(client_certificate=none)):
        with pytest.raises(UsageError, match=r"the certificates in .*none\.pem"):
            network.verify()


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("socks5://127.0.0.1:1080", "it is a SOCKS proxy"),
        ("socks://127.0.0.1:1080/", "it is a SOCKS proxy"),
        ("gopher://me:s3cret@127.0.0.1", "its address"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told(
    monkeypatch: pytest.MonkeyPatch, proxy: str, why: str
) -> None:
    with pytest.raises(UsageError, match="proxy of this machine cannot be used") as caught:
        Network(proxy=proxy).client()
    assert why in caught.value.why
    assert "s3cret" not in caught.value.render()
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(UsageError, match="proxy of this machine cannot be used"):
        Network().client()
