from __future__ import annotations

import pytest

from bundler.bootstrap.connection import (
    AUTHENTICATION,
    CERTIFICATE,
    PROXY,
    TLS,
    Obstacle,
    lasts,
    next_step,
    recognise,
)

# Words of pip 23.2, OpenSSL 3, urllib and httpx2, as they were said; hosts are made up.
UNTRUSTED = (
    "Could not fetch URL https://i.example/x/: There was a problem confirming the ssl certificate: "
    "HTTPSConnectionPool(host='i.example', port=443): Max retries exceeded (Caused by "
    "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify "
    "failed: self-signed certificate (_ssl.c:1006)'))) - skipping"
)
TUNNEL = (
    "(Caused by ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 "
    "Proxy Authentication Required')))"
)
SAID = [
    (UNTRUSTED, CERTIFICATE),
    ("no connection ([SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed)", CERTIFICATE),
    ("(Caused by SSLError(SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number'))", TLS),
    ("no connection ([SSL] unknown error (_ssl.c:1006))", TLS),
    (TUNNEL, PROXY),
    ("HTTP 407", PROXY),
    ("no connection (Tunnel connection failed: 403 Forbidden)", PROXY),
    ("Could not fetch URL http://i.example/x/: 401 Client Error: Unauthorized", AUTHENTICATION),
    ("ERROR: HTTP error 403 while getting https://i.example/x.whl", AUTHENTICATION),
    ("https://i.example/simple: HTTP 401", AUTHENTICATION),
    ("WARNING: 401 Error, Credentials not correct for https://i.example", AUTHENTICATION),
    ("https://i.example/simple: HTTP 404", None),
    ("Could not fetch URL http://i.example/x/: 404 Client Error: Not Found", None),
    ("Collecting x==4.403 from https://i.example/401/403/x-4.0.3.whl", None),
    ("no connection (Connection refused), 3 times", None),
]


@pytest.mark.parametrize(("text", "obstacle"), SAID)
def test_what_tools_say_is_recognised(text: str, obstacle: Obstacle | None) -> None:
    assert recognise(text) == obstacle
    assert next_step(text, "other") == (obstacle.next_step if obstacle else "other")


@pytest.mark.parametrize("setting", ["SSL_CERT_FILE", "global.cert"])
def test_an_untrusted_certificate_names_the_settings(setting: str) -> None:
    assert setting in CERTIFICATE.next_step


@pytest.mark.parametrize(
    ("text", "is_lasting"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED]", True),
        ("HTTP 403", True),
        ("ProxyError: 407 Proxy Authentication Required", True),
        ("ProxyError: 503 Service Unavailable", False),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING]", False),
        ("no connection", False),
    ],
)
def test_what_another_try_will_not_change_is_known(text: str, *, is_lasting: bool) -> None:
    assert lasts(text) is is_lasting
