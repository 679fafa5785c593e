"""Which engine serves, when, and how loud its choice is. The reference engine is a stub here."""

from __future__ import annotations

import base64
import errno
import json
import logging
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar import engines
from sidecar.engines.packed import engine as packed
from sidecar.engines.packed import tokens
from sidecar.engines.packed.architecture import GRAPH, WEIGHTS
from sidecar.errors import IntegrityError, ModelError, ServiceError
from sidecar.models import golden, loader, memory_needs
from sidecar.models.loader import choose
from sidecar.models.snapshot import Snapshot
from sidecar.process import limits
from sidecar.settings import Settings
from tests.support.twins import edit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sidecar.engines import Engine, Vectors
    from sidecar.settings import EngineName
    from tests.support.twins import Twin

TEXTS = ["the cat", "rivers run to the sea", "a", "", "word word word"]


class Chooser:
    """Chooses for one snapshot, and keeps the phases that were reported."""

    def __init__(self, folder: Path, golden: Path | None = None) -> None:
        self.phases: list[str] = []
        self.snapshot = Snapshot(repository="a/b", revision="rev", path=folder, golden=golden)

    def choose(self, engine: EngineName = "auto") -> tuple[Engine, str | None]:
        settings = Settings(engine=engine, device="cpu", threads=1)
        chosen = choose(settings, self.snapshot, self.phases.append)
        # Only what nobody asked for is a degradation, and it always is one.
        is_fallback = engine == "auto" and chosen.engine.name == "reference"
        assert chosen.degraded == ("reference" if is_fallback else None)
        assert chosen.degraded_because == (chosen.unpacked_because if is_fallback else None)
        return chosen.engine, chosen.unpacked_because


@pytest.fixture
def reference(twins: dict[str, Twin], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a module in place of the reference engine's that has its engine loaded already."""
    module: Any = types.ModuleType("sidecar.engines.reference")
    module.load = lambda _path, **_options: twins["bert"].reference
    monkeypatch.setitem(sys.modules, "sidecar.engines.reference", module)
    monkeypatch.setattr(engines, "reference", module, raising=False)
    return module


@pytest.fixture
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a bundle without torch and sentence-transformers."""
    for module in (golden, loader):
        monkeypatch.setattr(module, "has_reference", lambda: False)
    monkeypatch.setitem(sys.modules, "sidecar.engines.reference", None)
    monkeypatch.delattr(engines, "reference", raising=False)


def write_golden(path: Path, engine: Engine, *, noise: float = 0.0) -> Path:
    ids = [found.ids for found in engine.tokenize(TEXTS)]
    rows = engine.encode(ids, pooling="mean", normalize=True)
    rows += noise * np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
    vectors = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
    held = {"texts": TEXTS, "vectors": vectors, "dim": rows.shape[1]}
    path.write_text(json.dumps({**held, "pooling": "mean", "normalize": True}), encoding="utf-8")
    return path


@pytest.mark.usefixtures("lean")
@pytest.mark.parametrize("engine", ["auto", "packed"])
def test_the_packed_engine_serves_what_it_can_and_needs_no_other(
    twin: Twin, tmp_path: Path, engine: EngineName
) -> None:
    chooser = Chooser(twin.folder, write_golden(tmp_path / "g.json", twin.reference))
    made, reason = chooser.choose(engine)
    assert (made.name, made.device, made.space, reason) == ("packed", "cpu", "exact", None)
    assert chooser.phases == ["importing", "loading", "checking"]


@pytest.mark.usefixtures("reference")
def test_the_reference_engine_serves_when_asked_for_and_says_so(bert: Path) -> None:
    made, reason = Chooser(bert).choose("reference")
    assert (made.name, reason) == ("reference", "--engine reference was given")


@pytest.mark.usefixtures("reference")
def test_unqualified_model_is_served_by_the_reference(
    bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bert / GRAPH).unlink()
    with caplog.at_level(logging.WARNING, logger="sidecar"):
        made, reason = Chooser(bert).choose()
    assert made.name == "reference"
    assert reason is not None
    assert GRAPH in reason
    assert f"the packed engine is not used: {reason}" in caplog.text


@pytest.mark.usefixtures("reference")
def test_a_tokenizer_that_does_not_qualify_is_as_good_a_reason(bert: Path) -> None:
    edit(bert, "tokenizer_config.json", lambda c: c.update(do_lower_case=False))
    made, reason = Chooser(bert).choose()
    assert made.name == "reference"
    assert "normaliser" in str(reason)


@pytest.mark.usefixtures("reference")
def test_a_folder_without_any_configuration_is_the_references_to_judge(tmp_path: Path) -> None:
    made, reason = Chooser(tmp_path).choose()
    assert (made.name, reason) == ("reference", "config.json cannot be read")


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("engine", ["auto", "packed", "reference"])
def test_a_model_that_does_not_fit_is_refused_and_no_other_engine_is_tried(
    bert: Path, monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    room = limits.Limit(name="memory", value=64 << 20, left=16 << 20, remedy="raise it")
    monkeypatch.setattr(limits, "control_group", lambda _: room)
    chooser = Chooser(bert)
    with pytest.raises(ModelError, match="not enough memory") as caught:
        chooser.choose(engine)
    assert chooser.phases == []
    weighed = memory_needs.REFERENCE if engine == "reference" else memory_needs.PACKED
    assert int(caught.value.facts["needed_bytes"]) >= weighed.private
    assert caught.value.facts["available_bytes"] == 16 << 20


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("cause", ["a limit", "a foreign library"])
def test_what_the_system_does_to_packed_is_told_and_no_other_engine_is_tried(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    foreign = tmp_path / "theirs" / "libstdc++.so.6"
    foreign.parent.mkdir()
    foreign.touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(foreign.parent))
    errors: dict[str, Exception] = {
        "a limit": OSError(errno.EMFILE, "Too many open files"),
        "a foreign library": ImportError(f"{foreign}: version `X' not found (required by /x.so)"),
    }

    def fail(*_: object, **__: object) -> None:
        raise errors[cause]

    monkeypatch.setattr(packed, "load", fail)
    chooser = Chooser(bert)
    with pytest.raises(ServiceError) as caught:
        chooser.choose("auto")
    assert caught.value.exit_code == (11 if cause == "a limit" else 10)
    assert "open files" in caught.value.what or foreign.name in caught.value.what
    assert chooser.phases == ["importing", "loading"]


@pytest.mark.usefixtures("reference")
def test_packed_that_is_asked_for_by_name_never_becomes_another(bert: Path) -> None:
    edit(bert, "config.json", lambda c: c.update(hidden_act="relu"))
    with pytest.raises(ModelError, match="the packed engine cannot run this model") as caught:
        Chooser(bert).choose("packed")
    assert caught.value.exit_code == 11
    assert "relu" in caught.value.why


@pytest.mark.usefixtures("lean")
def test_a_lean_bundle_refuses_a_model_that_does_not_qualify_with_exit_11(bert: Path) -> None:
    edit(bert, "config.json", lambda c: c.update(model_type="deberta"))
    with pytest.raises(ModelError, match="no engine of this bundle can run this model") as caught:
        Chooser(bert).choose()
    assert caught.value.exit_code == 11
    assert "deberta" in caught.value.why
    assert "its profile leaves out the reference engine" in caught.value.why
    assert "profile safe" in caught.value.next_step


@pytest.mark.usefixtures("lean")
def test_a_lean_bundle_has_no_reference_engine_to_ask_for(bert: Path) -> None:
    with pytest.raises(ModelError, match="this bundle has no reference engine") as caught:
        Chooser(bert).choose("reference")
    assert caught.value.exit_code == 11


@pytest.mark.usefixtures("reference")
def test_wrong_vectors_give_the_packed_engine_up_aloud(
    bert: Path, twins: dict[str, Twin], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    golden = write_golden(tmp_path / "g.json", twins["bert"].reference)
    data = bytearray((bert / WEIGHTS).read_bytes())
    data[-20_000:-10_000] = bytes(10_000)
    (bert / WEIGHTS).write_bytes(data)
    with caplog.at_level(logging.WARNING, logger="sidecar"):
        made, reason = Chooser(bert, golden).choose()
    assert made.name == "reference"
    assert reason is not None
    assert "does not give the model's vectors" in reason
    assert f"the packed engine is not used: {reason}" in caplog.text


@pytest.mark.parametrize("engine", ["auto", "packed"])
@pytest.mark.usefixtures("lean")
def test_wrong_vectors_with_nobody_to_fall_back_on_are_exit_11(
    bert: Path, twins: dict[str, Twin], tmp_path: Path, engine: EngineName
) -> None:
    golden = write_golden(tmp_path / "g.json", twins["bert"].reference, noise=0.1)
    with pytest.raises(ModelError, match="the engine packed on cpu does not give") as caught:
        Chooser(bert, golden).choose(engine)
    assert caught.value.exit_code == 11


@pytest.mark.usefixtures("reference")
def test_when_no_engine_gives_the_vectors_none_serves(
    bert: Path, twins: dict[str, Twin], tmp_path: Path
) -> None:
    golden = write_golden(tmp_path / "g.json", twins["bert"].reference, noise=0.1)
    with pytest.raises(ModelError, match="the engine reference on cpu does not give"):
        Chooser(bert, golden).choose()


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_a_damaged_file_is_a_reason_and_no_traceback(
    bert: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = (bert / name).read_bytes()
    (bert / name).write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING, logger="sidecar"):
        made, reason = Chooser(bert).choose()
    assert made.name == "reference"
    assert "cannot be loaded by the packed engine" in str(reason)
    assert "is not used" in caplog.text
    with pytest.raises(ModelError, match="cannot be loaded by the packed engine"):
        Chooser(bert).choose("packed")


@pytest.mark.usefixtures("reference")
def test_an_engine_that_raises_while_it_is_proved_is_given_up(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("sidecar.engines.packed.onnx_executor.OnnxExecutor.run", fail)
    made, reason = Chooser(bert).choose()
    assert made.name == "reference"
    assert reason == "the engine packed fails on cpu: RuntimeError: no such kernel"


@pytest.mark.usefixtures("reference")
def test_damaged_reference_vectors_are_no_reason_to_fall_back(bert: Path, tmp_path: Path) -> None:
    golden = tmp_path / "g.json"
    golden.write_bytes(b"{}")
    with pytest.raises(IntegrityError):
        Chooser(bert, golden).choose()


def test_a_runtime_that_cannot_be_imported_is_exit_11_and_named(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in ("onnx_executor", "runtime"):
        monkeypatch.delitem(sys.modules, f"sidecar.engines.packed.{name}", raising=False)
    with pytest.raises(ModelError, match="libraries of the engine cannot be imported") as caught:
        Chooser(bert).choose("packed")
    assert "onnxruntime" in caught.value.why


@pytest.mark.parametrize("engine", ["auto", "packed"])
def test_unnamed_device_that_fails_yields_to_the_cpu(
    bert: Path,
    engine: EngineName,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(loader, "choose_device", lambda _: "mps")
    found = Snapshot(repository="a/b", revision="rev", path=bert, golden=None)
    chosen = choose(Settings(engine=engine, threads=1), found, lambda _: None)
    made = chosen.engine
    assert (made.name, made.device, chosen.unpacked_because) == ("packed", "cpu", None)
    assert chosen.degraded == "cpu"
    assert str(chosen.degraded_because).startswith("mps is given up: ")
    assert str(bert) not in str(chosen.degraded_because)
    assert "mps is given up" in caplog.text


def test_torch_that_cannot_be_imported_yields_to_the_cpu(
    bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loader, "_may_have_accelerator", lambda: True)
    monkeypatch.setitem(sys.modules, "sidecar.engines.devices", None)
    found = Snapshot(repository="a/b", revision="rev", path=bert, golden=None)
    chosen = choose(Settings(threads=1), found, lambda _: None)
    assert (chosen.engine.device, chosen.degraded) == ("cpu", "cpu")
    assert "torch is given up: the libraries" in caplog.text
    with pytest.raises(ModelError, match="libraries of the engine cannot be imported"):
        choose(Settings(device="cuda", threads=1), found, lambda _: None)


def test_a_device_that_was_named_is_not_replaced(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "choose_device", lambda _: "mps")
    found = Snapshot(repository="a/b", revision="rev", path=bert, golden=None)
    with pytest.raises(ModelError, match="cannot be loaded"):
        choose(Settings(engine="packed", device="mps", threads=1), found, lambda _: None)


class Cuda:
    """The graph in the place of a GPU; rounding to TF32 changes its vectors by `noise`."""

    device = "cuda"
    is_tf32 = False

    def __init__(self, twin: Twin, noise: float) -> None:
        self.tried: list[bool] = []
        self._encode, self._noise = twin.packed.encode, noise

    def run(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        if self.is_tf32 not in self.tried:
            self.tried.append(self.is_tf32)
        rows = self._encode(batch, pooling=pooling, normalize=normalize)
        drawn = np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
        return rows + drawn * np.float32(self._noise * self.is_tf32)

    def trim(self) -> None: ...


@pytest.mark.parametrize(
    ("noise", "has_golden", "tried"),
    [(0.0, True, [True]), (0.1, True, [True, False]), (0.0, False, [False])],
    ids=["exact enough", "too far off", "nothing to compare with"],
)
def test_tf32_serves_where_reference_vectors_hold(
    twins: dict[str, Twin],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    noise: float,
    tried: list[bool],
    *,
    has_golden: bool,
) -> None:
    twin = twins["bert"]
    cuda = Cuda(twin, noise)
    tokenizer = tokens.load(twin.folder, max_tokens=twin.architecture.max_tokens)
    made = packed.PackedEngine(twin.architecture, tokenizer, cuda)
    monkeypatch.setattr(packed, "load", lambda _path, **_options: made)
    monkeypatch.setattr(loader, "choose_device", lambda _: "cuda")
    vectors = write_golden(tmp_path / "g.json", twin.reference) if has_golden else None
    found = Snapshot(repository="a/b", revision="rev", path=twin.folder, golden=vectors)
    chosen = choose(Settings(threads=1), found, lambda _: None)
    assert (chosen.engine, chosen.degraded) == (made, None)
    assert cuda.tried == tried
    assert cuda.is_tf32 == tried[-1]
    assert ("not rounded to TF32" in caplog.text) == (len(tried) > 1)
