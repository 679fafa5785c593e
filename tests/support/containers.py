"""Containers of our image as people run them, and questions asked from inside of one."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sidecar.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    from docker.models.containers import Container  # type: ignore[import-untyped]

PLACE = "opt/sidecar"
PYTHON = f"/{PLACE}/python/bin/python3.11"
PORT = 8421
MEMORY = "1536m"
START_SECONDS = 180
# What a careful operator passes. There is no folder that anything could be written to.
HARDENED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "pids_limit": 128,
    "mem_limit": MEMORY,
    "memswap_limit": MEMORY,
}
ASK = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 8421, timeout=120)
body = sys.argv[3].encode() or None
headers = {"Content-Type": "application/json", "Host": sys.argv[4]}
connection.request(sys.argv[1], sys.argv[2], body, headers)
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""
WAIT = """
import http.client, sys, time
for _ in range(int(sys.argv[1]) * 4):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", 8421, timeout=5)
        connection.request("GET", "/health")
        if connection.getresponse().status == 200:
            sys.exit()
    except OSError:
        pass
    time.sleep(0.25)
sys.exit("not ready")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What a container's file system holds: each file's sha256, size, mode and owner, by path."""

    files: dict[str, tuple[str, int, int, tuple[int, int]]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def below(self, folder: str) -> dict[str, tuple[str, int, int, tuple[int, int]]]:
        """Return the files below `folder`, by their path from there."""
        start = f"{folder}/"
        return {
            path.removeprefix(start): one
            for path, one in self.files.items()
            if path.startswith(start)
        }


def run_inside(container: Container, code: str, *arguments: str) -> str:
    """Run `code` in the container, in the bundle's own interpreter; return what it prints."""
    done = container.exec_run([PYTHON, "-I", "-B", "-c", code, *arguments])
    text = str(done.output.decode())
    if done.exit_code:
        raise AssertionError(evidence(container, f"{text}\nended with {done.exit_code}"))
    return text


def wait_ready(container: Container) -> None:
    """Wait, from inside, until the service is ready; fail with the container's log."""
    run_inside(container, WAIT, str(START_SECONDS))


def ask_inside(
    container: Container, path: str, body: object = None, *, host: str = "localhost:8421"
) -> tuple[int, Any]:
    """Return the status and the JSON answer of one request made inside of the container."""
    method = "GET" if body is None else "POST"
    sent = "" if body is None else json.dumps(body)
    status, _, text = run_inside(container, ASK, method, path, sent, host).partition(" ")
    return int(status), json.loads(text)


def evidence(container: Container, what: str) -> str:
    """Return `what`, with the container's state and the end of its log."""
    container.reload()
    log = container.logs(tail=20).decode(errors="replace")
    return f"{what}\nstate: {container.attrs['State']}\nlog:\n{log}"


def tree_of(container: Container) -> Tree:
    """Return everything in the container's file system, hashed."""
    with tempfile.TemporaryFile() as held:
        for chunk in container.export(chunk_size=CHUNK_BYTES):
            held.write(chunk)
        held.seek(0)
        return tree_in(held)


def tree_in(stream: Any) -> Tree:
    """Return everything in the tar that `stream` holds, hashed."""
    tree = Tree()
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                digest = hashlib.file_digest(content, "sha256")  # type: ignore[arg-type]
                mode = stat.S_IMODE(member.mode)
                owner = (member.uid, member.gid)
                tree.files[name] = (digest.hexdigest(), member.size, mode, owner)
            elif member.issym() or member.islnk():
                tree.links[name] = member.linkname
    return tree
