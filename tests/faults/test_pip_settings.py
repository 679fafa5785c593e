"""pip as its user configured it, run for real: what serves the user, and what diverts the build.

And what a certificate, a proxy or a password makes of an install and of our own downloads.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bundler import environment
from bundler.artifacts.download import Patience
from bundler.artifacts.fetch import Request, fetch
from bundler.artifacts.network import Network
from bundler.artifacts.sources import Indexes, IndexSource, UrlSource, configured_network
from bundler.artifacts.store import Store
from bundler.bootstrap import connection, download
from bundler.bootstrap.pip_options import pip_options
from bundler.console import Progress
from bundler.digests import Artifact, Digest
from bundler.errors import UnreachableError
from tests.support.badserver import BadServer
from tests.support.firststep import Checkout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bundler.project import Project

QUICK = Network(tries=3, first_wait_s=0.0, longest_wait_s=0.0)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout with an empty environment."""
    folder = tmp_path_factory.mktemp("pip")
    (folder / "runtime.tar.gz").touch()
    made = Checkout.make(folder / "checkout", folder / "runtime.tar.gz")
    made.project.out.mkdir(parents=True)
    environment._create(made.project)
    return made


@pytest.fixture
def project(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """Return the project, for a user without settings."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "XDG_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in connection.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    monkeypatch.setattr("bundler.bootstrap.pip_options._files_of_the_machine", lambda _: iter(()))
    yield checkout.project
    for path in environment._site_packages(checkout.project).glob("feather*"):
        shutil.rmtree(path)


def install(project: Project) -> None:
    environment._install(project, ["build"], [], lambda _: None)
    environment._prove(project, ["build"])


@dataclass(frozen=True, kw_only=True)
class Untrusted:
    """The certificate's file, which is also that of its issuer, and what a server presents."""

    path: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Untrusted:
    """Make a certificate for localhost that no system trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    path, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key)]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return Untrusted(path=path, context=context)


@pytest.fixture
def index(checkout: Checkout, certificate: Untrusted) -> Iterator[BadServer]:
    """Serve the wheel from a page, by https, with a certificate that no system trusts."""
    (wheel,) = checkout.wheels.iterdir()
    with BadServer(tls=certificate.context, content_type="text/html") as server:
        server.add("simple/feather/", f'<a href="/{wheel.name}">{wheel.name}</a>'.encode())
        server.add(wheel.name, wheel.read_bytes())
        yield server


@pytest.fixture
def plain() -> Iterator[BadServer]:
    with BadServer(content_type="text/html") as server:
        yield server


def wanted(checkout: Checkout, index_url: str, options: dict[str, str]) -> tuple[Request, Network]:
    """Return what fetches the wheel by our own client, configured as pip is."""
    (wheel,) = checkout.wheels.iterdir()
    network = configured_network(options, QUICK)
    source = IndexSource(Indexes(index_urls=(index_url,)), network)
    artifact = Artifact(name=wheel.name, digest=Digest.of_file(wheel))
    return Request(artifact=artifact, sources=(source,)), network


def test_settings_that_divert_an_install_do_not_reach_it(
    checkout: Checkout, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {name: str(tmp_path / f"{name} file") for name in ("target", "prefix", "root")}
    lines = [f"{name} = {place}" for name, place in places.items()]
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(
        "\n".join(["[global]", "user = true", "[install]", *lines])
    )
    assert pip_options(os.environ)["user"] == "true"
    for name in places:
        monkeypatch.setenv(f"PIP_{name.upper()}", str(tmp_path / f"{name} variable"))
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_DRY_RUN", "1")
    monkeypatch.setenv("PIP_QUIET", "3")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hostile"))
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile/pip.py").write_text("raise RuntimeError('another program')\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(checkout.wheels))
    install(project)
    assert (environment._site_packages(project) / "feather/__init__.py").is_file()
    assert [path for path in tmp_path.iterdir() if " " in path.name] == []


@pytest.mark.parametrize("setting", ["PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "file"])
def test_one_setting_of_certificates_serves_every_download(
    checkout: Checkout,
    project: Project,
    index: BadServer,
    certificate: Untrusted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    if setting == "file":
        (tmp_path / ".config/pip").mkdir(parents=True)
        text = f"[global]\ncert = {certificate.path}\n"
        (tmp_path / ".config/pip/pip.conf").write_text(text)
    else:
        monkeypatch.setenv(setting, str(certificate.path))
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.root}/simple")
    if setting in {"SSL_CERT_FILE", "file"}:
        install(project)
    options = dict(pip_options(os.environ))
    request, network = wanted(checkout, f"{index.root}/simple", options)
    store = Store(tmp_path / "store")
    assert fetch([request], store, network=network)
    url = index.url(request.artifact.name)
    other = Store(tmp_path / "other")
    way = download.route(options, url)
    path = download.fetch(request.artifact, url, other, way, Progress(), Patience())
    assert path.is_file()


def test_an_old_pip_trusts_what_the_system_trusts(
    project: Project, index: BadServer, certificate: Untrusted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SYSTEM_FILES", (str(certificate.path),))
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.root}/simple")
    if connection.for_pip(environment._site_packages(project), project.out, None) is None:
        pytest.skip("the pip of this Python asks the system's store by itself")
    install(project)


def test_an_untrusted_certificate_is_reported_as_that_and_tried_once(
    checkout: Checkout,
    project: Project,
    index: BadServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.root}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(UnreachableError, match="certificate is not trusted here") as caught:
        environment._install(project, ["build"], [], lambda _: None)
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.why
    assert "SSL_CERT_FILE" in caught.value.next_step
    request, network = wanted(checkout, f"{index.root}/simple", {})
    waits: list[float] = []
    (miss,) = request.sources[0].locate(request.artifact, waits.append)
    assert waits == []
    assert "CERTIFICATE_VERIFY_FAILED" in str(miss)
    direct = Request(
        artifact=request.artifact, sources=(UrlSource(url=index.url(request.artifact.name)),)
    )
    for one in (request, direct):
        with pytest.raises(UnreachableError, match="certificate is not trusted here") as caught:
            fetch([one], Store(tmp_path / "store"), network=network)
        assert "global.cert" in caught.value.next_step
        assert "times" not in caught.value.why
    url = index.url(request.artifact.name)
    other = Store(tmp_path / "other")
    way = download.route({}, url)
    with pytest.raises(UnreachableError) as caught:
        download.fetch(request.artifact, url, other, way, Progress(), Patience())
    assert "certificate is not trusted here" in caught.value.what
    assert "global.cert" in caught.value.next_step
    assert index.seen == []


@pytest.mark.parametrize("code", [401, 403])
def test_an_index_that_refuses_is_reported_as_that(
    checkout: Checkout,
    project: Project,
    plain: BadServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    plain.refuse("/simple/feather/", code)
    monkeypatch.setenv("PIP_INDEX_URL", f"{plain.root}/simple")
    with pytest.raises(UnreachableError, match="requires a user and a password") as caught:
        environment._install(project, ["build"], [], lambda _: None)
    assert f"{code} Client Error" in caught.value.why
    assert "global.index-url" in caught.value.next_step
    request, network = wanted(checkout, f"{plain.root}/simple", {})
    with pytest.raises(UnreachableError, match="requires a user and a password") as caught:
        fetch([request], Store(tmp_path / "store"), network=network)
    assert f"HTTP {code}" in caught.value.why
    assert ".netrc" in caught.value.next_step


@pytest.mark.parametrize("is_there", [True, False])
def test_a_proxy_that_refuses_or_is_not_there_is_reported_as_that(
    checkout: Checkout,
    project: Project,
    plain: BadServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_there: bool,
) -> None:
    index_url = "https://index.example/simple"
    plain.refuse("index.example:443", 407)
    monkeypatch.setenv("PIP_INDEX_URL", index_url)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("HTTPS_PROXY", plain.root if is_there else "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="the proxy does not let it through") as caught:
        environment._install(project, ["build"], [], lambda _: None)
    assert "ProxyError" in caught.value.why
    assert "global.proxy" in caught.value.next_step
    request, network = wanted(checkout, index_url, {})
    with pytest.raises(UnreachableError) as caught:
        fetch([request], Store(tmp_path / "store"), network=network)
    said = "ProxyError: 407" if is_there else "no connection through 127.0.0.1:9"
    assert said in caught.value.why
    assert ("times" in caught.value.why) is not is_there
    assert "global.proxy" in caught.value.next_step
