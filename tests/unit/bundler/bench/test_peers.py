from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from bundler.bench import peers
from bundler.bench.client import Target
from bundler.bench.peers import NAMES, Peer, find, start
from bundler.errors import SmokeError

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """#!{python}
import http.server, json, os, pathlib, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
pathlib.Path(os.environ["HOME"], "told").write_text(json.dumps([sys.argv[1:], dict(os.environ)]))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        body = json.dumps([[1.0, 2.0]] * len(texts)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
FAILS = "#!{python}\nimport sys\nsys.exit('no such model')\n"


def program(folder: Path, name: str, text: str = FAILS, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(text.format(python=sys.executable), encoding="utf-8")
    path.chmod(mode)
    return path


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    found, absent = find([], snapshot=tmp_path, models={})
    assert found == []
    assert {each.name: each.why for each in absent} == dict.fromkeys(NAMES, "it is not installed")


def test_a_program_is_known_by_its_name_and_must_be_runnable(tmp_path: Path) -> None:
    paths = [
        program(tmp_path, "text-embeddings-router"),
        program(tmp_path, "infinity_emb", mode=0o644),
        program(tmp_path, "my-server"),
    ]
    found, absent = find(paths, snapshot=tmp_path, models={})
    assert [(peer.name, peer.model) for peer in found] == [("text-embeddings-router", tmp_path)]
    why = {each.name: each.why for each in absent}
    assert "cannot be run" in why["infinity_emb"]
    assert "none of the servers" in why["my-server"]


def test_readers_of_gguf_need_a_file_of_it(tmp_path: Path) -> None:
    paths = [program(tmp_path, "ollama"), program(tmp_path, "llama-server")]
    model = tmp_path / "model.gguf"
    found, absent = find(paths, snapshot=tmp_path, models={"ollama": model})
    assert [(peer.name, peer.model) for peer in found] == [("ollama", model)]
    assert "--peer-model llama-server=FILE" in next(
        each.why for each in absent if each.name == "llama-server"
    )


def test_a_peer_is_started_with_our_threads_and_writes_below_our_folder(tmp_path: Path) -> None:
    path = program(tmp_path, "text-embeddings-router", SERVER)
    peer = Peer(name="text-embeddings-router", program=path, model=tmp_path)
    service, target, seconds = start(peer, threads=3, folder=tmp_path / "homes")
    try:
        assert seconds > 0
        with target.connect() as connection:
            rows = target.vectors(connection.embed(["a", "b"]).body)
        assert rows.tolist() == [[1.0, 2.0], [1.0, 2.0]]
    finally:
        service.stop()
    told = (tmp_path / "homes" / "text-embeddings-router" / "told").read_text()
    assert '"OMP_NUM_THREADS": "3"' in told
    assert '"--auto-truncate"' in told


def test_a_peer_that_does_not_start_leaves_its_last_words(tmp_path: Path) -> None:
    path = program(tmp_path, "infinity_emb")
    with pytest.raises(SmokeError, match="infinity_emb") as caught:
        start(
            Peer(name="infinity_emb", program=path, model=tmp_path),
            threads=1,
            folder=tmp_path / "homes",
        )
    assert "no such model" in caught.value.why


@pytest.mark.parametrize("name", NAMES)
def test_each_peer_is_spoken_to_on_the_port_it_was_given(tmp_path: Path, name: str) -> None:
    peer = Peer(name=name, program=tmp_path / name, model=tmp_path)  # type: ignore[arg-type]
    words, target = peers._invocation(peer, 4711, 2)
    assert words[0] == str(tmp_path / name)
    assert isinstance(target, Target)
    assert target.port == 4711
    assert name == "ollama" or "4711" in words
