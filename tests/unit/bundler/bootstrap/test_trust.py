from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest

from bundler.bootstrap import connection
from bundler.errors import UsageError


@pytest.fixture(scope="module")
def pems() -> list[str]:
    """Return two real certificates."""
    text = Path(certifi.where()).read_text(encoding="utf-8")
    end = "-----END CERTIFICATE-----\n"
    return [f"-----BEGIN{part.partition('-----BEGIN')[2]}{end}" for part in text.split(end)[:2]]


@pytest.fixture
def pem(pems: list[str]) -> str:
    return pems[0]


@pytest.fixture
def other(pems: list[str]) -> str:
    return pems[1]


@pytest.fixture
def pip(tmp_path: Path) -> Path:
    """Return site-packages with a pip that has certificates of its own."""
    own = tmp_path / "site/pip/_vendor/certifi/cacert.pem"
    own.parent.mkdir(parents=True)
    own.write_text("own\n")
    return tmp_path / "site"


def test_the_first_variable_that_is_set_names_the_certificates() -> None:
    assert connection.configured_certificates({}) == ""
    assert connection.configured_certificates({"SSL_CERT_DIR": "/d", "CURL_CA_BUNDLE": ""}) == "/d"
    assert (
        connection.configured_certificates({"SSL_CERT_FILE": "/s", "REQUESTS_CA_BUNDLE": "/r"})
        == "/r"
    )


def test_a_file_is_trusted_beside_the_systems_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pem: str, other: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    (tmp_path / "system.pem").write_text(other)
    (tmp_path / "ca.pem").write_text(pem)
    made = connection.trusting(tmp_path / "ca.pem")
    assert len(made.get_ca_certs()) == 2
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT


def test_a_folder_is_read_when_a_server_is_met(tmp_path: Path) -> None:
    before = connection.trusting(None).get_ca_certs()
    assert connection.trusting(tmp_path).get_ca_certs() == before


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_file_that_cannot_be_used_is_named_with_the_settings(
    tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=r"ca\.pem") as caught:
        connection.trusting(path)
    assert caught.value.exit_code == 2
    assert caught.value.why
    assert "REQUESTS_CA_BUNDLE" in caught.value.next_step
    with pytest.raises(UsageError, match=r"ca\.pem") as caught:
        connection.trusting(None, client=path)
    assert "PIP_CLIENT_CERT" in caught.value.next_step


def test_the_systems_store_is_trusted_where_nothing_is_named() -> None:
    assert connection.trusting(None).verify_mode is ssl.CERT_REQUIRED


def test_a_python_without_certificates_takes_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pem: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setattr(connection, "system_certificates", lambda: pem)
    assert len(connection.trusting(None).get_ca_certs()) == 1
    monkeypatch.setattr(connection, "system_certificates", lambda: "")
    assert connection.trusting(None).get_ca_certs() == []


@pytest.mark.parametrize(
    ("version", "needs_it"),
    [("22.3", True), ("23.2.1", True), ("24.1", True), ("24.2", False), ("26.0.1", False)],
)
def test_an_old_pip_gets_its_own_certificates_and_the_systems(
    pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, needs_it: bool
) -> None:
    (pip / f"pip-{version}.dist-info").mkdir()
    monkeypatch.setattr(connection, "system_certificates", lambda: "system\n")
    made = connection.for_pip(pip, tmp_path, None)
    assert (made is not None) is needs_it
    if made is not None:
        assert made.read_text().split() == ["system", "own"]
    monkeypatch.setattr(connection, "system_certificates", lambda: "")
    assert connection.for_pip(pip, tmp_path, None) is None


def test_what_a_user_names_replaces_neither_pips_nor_the_systems(
    pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pem: str
) -> None:
    monkeypatch.setattr(connection, "system_certificates", lambda: "system\n")
    named = tmp_path / "ca.pem"
    named.write_text(pem)
    made = connection.for_pip(pip, tmp_path, named)
    assert made is not None
    assert made.read_text() == f"system\n\nown\n\n{pem}"
    assert connection.for_pip(pip, tmp_path, tmp_path) == tmp_path
    with pytest.raises(UsageError, match=r"none\.pem"):
        connection.for_pip(pip, tmp_path, tmp_path / "none.pem")


@pytest.mark.skipif(sys.platform != "linux", reason="the files are Linux'")
def test_the_first_of_the_systems_files_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pem: str
) -> None:
    (tmp_path / "b.pem").write_text(pem)
    monkeypatch.setattr(
        connection, "SYSTEM_FILES", (str(tmp_path / "a.pem"), str(tmp_path / "b.pem"))
    )
    assert connection.system_certificates() == pem
    monkeypatch.setattr(connection, "SYSTEM_FILES", ())
    assert connection.system_certificates() == ""


def test_keychains_are_read_by_macos_own_program(monkeypatch: pytest.MonkeyPatch, pem: str) -> None:
    seen: list[Any] = []

    def run(command: tuple[str, ...], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        if len(seen) > 1:
            raise FileNotFoundError
        return subprocess.CompletedProcess(command, 0, stdout=pem)

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", run)
    assert connection.system_certificates() == pem.strip()
    assert seen[0][1:4] == ("find-certificate", "-a", "-p")
    assert connection.system_certificates() == ""


def test_windows_store_becomes_text(monkeypatch: pytest.MonkeyPatch, pem: str) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    path = Path(certifi.where())
    loaded = ssl.create_default_context(cafile=path)
    monkeypatch.setattr(ssl, "create_default_context", lambda: loaded)
    assert pem.split()[1] in connection.system_certificates()
