"""The relocated host CPython, moved to a machine that has no Python, no shell and no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundler.assembly import host_python
from tests.support import chroot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux relocates its Python")

ODD_PLACE = "Programs for Zoé/app/python"
DEBIAN = Path("/usr/bin/python3.11")
INSIDE = """
import asyncio, bz2, ctypes, hashlib, json, lzma, multiprocessing, os, socket, sqlite3, ssl, sys
import _uuid, sysconfig, uuid, zlib

def refusal(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return type(error).__name__
    return None

with open("/proc/self/maps") as maps:
    mapped = sorted({line.split(None, 5)[5].strip() for line in maps if "/" in line})
data = os.urandom(5000)
print(json.dumps({
    "prefix": [sys.prefix, sys.exec_prefix],
    "path": sys.path,
    "purelib": sysconfig.get_path("purelib"),
    "environment": sorted(set(os.environ) - {"LC_CTYPE"}),
    "shell": os.path.exists("/bin/sh"),
    "network": refusal(socket.create_connection, ("192.0.2.1", 80), 2),
    "write": refusal(open, os.path.join(sys.prefix, "new"), "w"),
    "round trips": [
        module.decompress(module.compress(data)) == data for module in (bz2, lzma, zlib)
    ],
    "sqlite": sqlite3.connect(":memory:").execute("select 6 * 7").fetchone()[0],
    "tls": ssl.create_default_context().verify_mode.name,
    "sha3": hashlib.sha3_256(b"").hexdigest()[:8],
    "openssl": hashlib.new("sha512_256").name,
    "callback": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)(41),
    "uuid": uuid.uuid1().version,
    "mapped": mapped,
}))
"""


def hosts() -> list[Path]:
    """Return the CPython 3.11 that runs us, and the distribution's if that is another."""
    own = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    return [own, *([DEBIAN] if DEBIAN.is_file() and DEBIAN.resolve() != own else [])]


@pytest.fixture(scope="module", params=hosts(), ids=lambda path: path.parent.parent.name)
def answer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what the copy says of itself after it was moved into an empty machine."""
    if reason := chroot.obstacle():
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("machine")
    built = tmp_path_factory.mktemp("built") / "python"
    host_python.copy(host_python.probe(request.param), built)
    (built / "lib/python3.11/site-packages").mkdir()
    chroot.furnish(root, built / "bin/python3.11")
    (root / ODD_PLACE).parent.mkdir(parents=True)
    built.rename(root / ODD_PLACE)
    program = f"/{ODD_PLACE}/bin/python3.11"
    inner = [program, "-I", "-B", "-c", INSIDE]
    command = chroot.inside(Path(sys.executable), root, inner)
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_it_takes_the_moved_folder_for_its_prefix(answer: Any) -> None:
    assert answer["prefix"] == [f"/{ODD_PLACE}"] * 2


def test_it_searches_its_own_folders_and_no_others(answer: Any) -> None:
    library = f"/{ODD_PLACE}/lib/python3.11"
    assert answer["path"] == [
        f"/{ODD_PLACE}/lib/python311.zip",
        library,
        f"{library}/lib-dynload",
        f"{library}/site-packages",
    ]
    assert answer["purelib"] == f"{library}/site-packages"


def test_only_glibc_comes_from_the_system(answer: Any) -> None:
    outside = [path for path in answer["mapped"] if not path.startswith(f"/{ODD_PLACE}/")]
    assert [path for path in outside if not host_python.is_glibc(Path(path).name)] == []
    assert any(Path(path).name.startswith("libc.") for path in outside)


def test_every_module_that_needs_a_library_does_its_work(answer: Any) -> None:
    assert answer["round trips"] == [True, True, True]
    assert answer["sqlite"] == 42
    assert answer["tls"] == "CERT_REQUIRED"
    assert answer["sha3"] == "a7ffc6f8"
    assert answer["openssl"] == "sha512_256"
    assert answer["callback"] == 42
    assert answer["uuid"] == 1


def test_it_needs_no_environment_no_shell_no_network_and_no_right_to_write(
    answer: Any,
) -> None:
    assert answer["environment"] == []
    assert answer["shell"] is False
    assert answer["network"] == "OSError"
    assert answer["write"] == "OSError"
