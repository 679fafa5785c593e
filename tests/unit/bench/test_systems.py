from __future__ import annotations

import importlib.util
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import systems
from bench.systems import (
    ENGINES,
    INT8,
    LIBRARY,
    LIBRARY_SERVER,
    OURS,
    PEERS,
    PORT,
    PeerName,
    engines,
    first_line,
    free_port,
    library,
    others,
    ours,
    start,
    thread_settings,
)
from bundler.errors import SmokeError
from tests.unit.bench.conftest import stub_systems

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


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


def program(folder: Path, name: str, text: str = FAILS, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(text.format(python=sys.executable), encoding="utf-8")
    path.chmod(mode)
    return path


def found(
    folder: Path, *programs: Path, models: dict[str, Path] | None = None
) -> tuple[list[systems.System], dict[str, str]]:
    return others(folder, 3, programs, models or {}, folder / "homes")


@pytest.mark.usefixtures("nothing_installed")
def test_absent_systems_are_named_with_the_reason(tmp_path: Path) -> None:
    present, absent = found(tmp_path)
    assert present == []
    assert absent.pop(LIBRARY) == "this environment does not have it"
    assert absent == dict.fromkeys(PEERS, "it is not installed")


@pytest.mark.usefixtures("nothing_installed")
def test_a_program_is_known_by_its_name_and_must_be_executable(tmp_path: Path) -> None:
    given = (
        program(tmp_path, "text-embeddings-router"),
        program(tmp_path, "infinity_emb", mode=0o644),
        program(tmp_path, "my-server"),
    )
    present, absent = found(tmp_path, *given)
    assert [system.name for system in present] == ["text-embeddings-router"]
    assert "cannot be run" in absent["infinity_emb"]
    assert "none of" in absent["my-server"]


@pytest.mark.usefixtures("nothing_installed")
def test_servers_of_gguf_need_such_a_file(tmp_path: Path) -> None:
    given = (program(tmp_path, "ollama"), program(tmp_path, "llama-server"))
    present, absent = found(tmp_path, *given, models={"ollama": tmp_path / "model.gguf"})
    assert [system.name for system in present] == ["ollama"]
    assert "--peer-model llama-server=FILE" in absent["llama-server"]
    recipe = (tmp_path / "homes" / "ollama" / "Modelfile").read_text()
    assert recipe == f"FROM {tmp_path / 'model.gguf'}\n"


@pytest.mark.usefixtures("nothing_installed")
def test_a_peer_gets_the_threads_and_a_home_of_the_run(tmp_path: Path) -> None:
    (system,), _ = found(tmp_path, program(tmp_path, "text-embeddings-router", SERVER))
    running = start(system, ["first"], threads=3)
    try:
        assert running.start_s > 0
        with running.connect() as connection:
            _, bodies = connection.embed(["a", "b"])
        assert system.api.vectors(bodies).tolist() == [[1.0, 2.0], [1.0, 2.0]]
    finally:
        running.service.stop()
    told = (tmp_path / "homes" / "text-embeddings-router" / "told").read_text()
    assert '"OMP_NUM_THREADS": "3"' in told
    assert '"--auto-truncate"' in told


@pytest.mark.usefixtures("nothing_installed")
def test_a_peer_that_does_not_start_reports_its_log(tmp_path: Path) -> None:
    (system,), _ = found(tmp_path, program(tmp_path, "infinity_emb"))
    with pytest.raises(SmokeError, match="infinity_emb") as caught:
        start(system, ["first"], threads=1)
    assert "exit code 1" in caught.value.why
    assert "no such model" in caught.value.why


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_listens_on_the_port_that_it_is_given(tmp_path: Path, name: PeerName) -> None:
    system = systems._peer(name, tmp_path / name, tmp_path, 2, tmp_path / "home")
    words = [*system.command, *system.environment.values()]
    assert any(PORT in word for word in words)
    assert all(PORT in word for word in words if "OLLAMA_HOST" in word)
    assert system.api.largest == 1024


def test_rows_of_openai_and_ollama_are_read(tmp_path: Path) -> None:
    infinity, ollama = (
        systems._peer(name, tmp_path / name, tmp_path, 2, tmp_path / "home").api
        for name in ("infinity_emb", "ollama")
    )
    assert infinity.vectors([b'{"data": [{"embedding": [1, 2]}]}']).tolist() == [[1.0, 2.0]]
    assert ollama.vectors([b'{"embeddings": [[3, 4]]}']).tolist() == [[3.0, 4.0]]


def test_our_service_is_timed_from_its_start_to_its_first_vector() -> None:
    (system,) = stub_systems()
    running = start(system, ["first"], threads=1)
    try:
        assert running.start_s > 0
        assert running.info()["max_tokens"] > 0
    finally:
        assert running.service.stop() == 0


def test_our_service_that_ends_reports_its_log() -> None:
    (system,) = stub_systems("--host", "192.0.2.1")
    with pytest.raises(SmokeError) as caught:
        start(system, ["first"], threads=1)
    assert "exit code 2" in caught.value.why


def test_int8_is_the_same_service_with_one_more_option() -> None:
    whole, int8 = ours(["service"], 3)
    assert (whole.name, int8.name) == (OURS, INT8)
    assert list(whole.command) == ["service", "--port", PORT, "--threads", "3"]
    assert list(int8.command) == [*whole.command, "--precision", "int8"]


def test_our_engines_run_in_the_services_own_python(tmp_path: Path) -> None:
    whole, int8 = engines("python", tmp_path / "service", tmp_path / "model", 3)
    assert (whole.name, int8.name) == tuple(ENGINES[name] for name in (OURS, INT8))
    ends = [PORT, "packed", str(tmp_path / "model"), "3", str(tmp_path / "service")]
    assert list(whole.command) == ["python", "-I", "-B", str(LIBRARY_SERVER), *ends, "float32"]
    assert whole.command[:-1] == int8.command[:-1]
    assert int8.command[-1] == "int8"


def test_fastembed_needs_an_interpreter_and_the_model_as_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="cannot be run"):
        systems.fastembed(tmp_path / "python", tmp_path, 1, tmp_path)
    monkeypatch.setattr(systems, "ONNX_EXPORT", program(tmp_path, "export.py"))
    with pytest.raises(SmokeError, match="exported") as caught:
        systems.fastembed(Path(sys.executable), tmp_path, 1, tmp_path)
    assert caught.value.why == "no such model"
    monkeypatch.setattr(systems, "ONNX_EXPORT", program(tmp_path, "export.py", ""))
    made = systems.fastembed(Path(sys.executable), tmp_path, 3, tmp_path / "home")
    assert made.is_in_process
    assert made.least_cosine == 0.9999
    assert list(made.command[-4:]) == [PORT, "fastembed", str(tmp_path / "home"), "3"]


def test_a_library_that_fails_is_not_waited_for(tmp_path: Path) -> None:
    system = library(tmp_path, 1)
    broken = replace(system, api=replace(system.api, path="/nothing"))
    with pytest.raises(SmokeError, match=LIBRARY) as caught:
        start(broken, ["first"], threads=1)
    assert "KeyError" in caught.value.why


def test_a_set_up_that_never_succeeds_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "SET_UP_SECONDS", 0.0)
    code = "import sys; sys.exit('unknown model')"
    system = replace(library(tmp_path, 1), set_up=[sys.executable, "-c", code])
    with pytest.raises(SmokeError, match="does not take the model") as caught:
        start(system, ["first"], threads=1)
    assert "unknown model" in caught.value.why


def test_a_version_is_the_first_line_that_a_program_prints() -> None:
    assert first_line([sys.executable, "-c", "print('1.2\\nmore')"]) == "1.2"
    assert first_line([sys.executable, "-c", "raise SystemExit(1)"]) == "unknown"
    assert first_line(["/nothing/here"]) == "unknown"


def test_every_library_is_held_to_the_same_threads() -> None:
    settings = thread_settings(3)
    names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
    assert [settings[f"{name}_NUM_THREADS"] for name in names] == ["3"] * 5


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))
