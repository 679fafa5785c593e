from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest

from bundler import smoke as smoking
from bundler.errors import SmokeError, VerificationError
from bundler.launch import command
from bundler.smoke import REFERENCE, Proved, smoke
from sidecar.manifest import read
from sidecar.models.golden import read as read_golden
from tests.support.stocked import SITE, Stocked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PROVED = Proved(modules=3, files=4)


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("smoke"))


class Stub:
    """A service that answers with one vector and ends with one code; a miniature's cannot run."""

    def __init__(self, vector: Sequence[float] = (0.6, 0.8), code: int = 0) -> None:
        self.vector = vector
        self.code = code
        self.poolings: set[str] = set()
        self.models: set[str] = set()
        self.engines: list[str] = []

    def start(self, words: Sequence[str], **options: Any) -> Stub:
        assert options["environment"] == {}
        self.engines.append(words[words.index("--engine") + 1])
        return self

    def wait_ready(self, _: float) -> None: ...

    def request(self, path: str, body: dict[str, Any]) -> dict[str, object]:
        assert path == "/embed"
        self.poolings.add(body["pooling"])
        self.models.add(body["model"])
        return {"vectors": [self.vector for _ in body["texts"]]}

    def failure(self, why: str) -> SmokeError:
        return SmokeError("failed", why=why)

    def end(self) -> None:
        if self.code:
            raise self.failure(f"exit code {self.code}")

    def __enter__(self) -> Self:
        """Return the service."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, stocked: Stocked) -> Callable[..., Any]:
    def runs(
        stub: Stub,
        proof: Callable[..., Proved] = lambda *_, **__: PROVED,
        bundle: Path | None = None,
    ) -> Any:
        monkeypatch.setattr(smoking, "RunningService", stub)
        monkeypatch.setattr(smoking, "prove", proof)
        return smoke(bundle or stocked.bundle, stocked.miniature.recipe)

    return runs


def test_what_was_seen_is_told(run: Callable[..., Any]) -> None:
    seen = run(Stub())
    assert (seen.models, seen.texts) == (("tiny", "wheeled"), 2)
    assert (seen.profile, seen.proved) == ("safe", (PROVED,))
    assert seen.worst == pytest.approx(1)


def test_every_engine_of_a_bundle_is_run_and_proved(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked = Stocked.make(tmp_path)
    package = stocked.bundle / SITE / REFERENCE
    monkeypatch.setattr(
        smoking, "verify", lambda *_: SimpleNamespace(manifest=read(stocked.bundle))
    )
    proved: list[str] = []

    def prove(*_: object, engine: str) -> Proved:
        proved.append(engine)
        return PROVED

    stub = Stub()
    run(stub, prove, stocked.bundle)
    assert (stub.engines, proved) == (["auto"], ["auto"])
    package.mkdir()
    run(stub, prove, stocked.bundle)
    assert (stub.engines[1:], proved[1:]) == (["auto", "reference"], ["auto", "reference"])


def test_every_model_of_a_bundle_is_asked_by_its_name(run: Callable[..., Any]) -> None:
    stub = Stub()
    run(stub)
    assert stub.models == {"tiny", "wheeled"}
    assert stub.engines == ["auto"]


def test_vectors_are_asked_for_with_the_pooling_of_the_golden_ones(
    run: Callable[..., Any], stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stocked.bundle / str(read(stocked.bundle).models[0].golden)
    golden = replace(read_golden(path), pooling="cls")
    monkeypatch.setattr(smoking, "read_golden", lambda _: golden)
    stub = Stub()
    run(stub)
    assert stub.poolings == {"cls"}


def test_vectors_of_another_space_are_a_failure(run: Callable[..., Any]) -> None:
    with pytest.raises(SmokeError) as caught:
        run(Stub(vector=(0.8, 0.6)))
    assert "the worst cosine to the golden vectors of tiny is 0.96" in caught.value.why


def test_a_service_that_does_not_end_well_is_a_failure(run: Callable[..., Any]) -> None:
    with pytest.raises(SmokeError) as caught:
        run(Stub(code=1))
    assert "exit code 1" in caught.value.why


def test_the_profile_is_proved_with_golden_texts_and_its_failure_stands(
    run: Callable[..., Any], stocked: Stocked
) -> None:
    def refuse(bundle: Path, recipe: object, texts: Sequence[str], **_: str) -> Proved:
        assert (bundle, recipe, list(texts)) == (
            stocked.bundle,
            stocked.miniature.recipe,
            ["hello"],
        )
        raise SmokeError("reached for it")

    with pytest.raises(SmokeError, match="reached for it"):
        run(Stub(), refuse)


def test_a_bundle_that_running_changed_is_told(run: Callable[..., Any], stocked: Stocked) -> None:
    extra = stocked.bundle / "written"

    def write(*_: object, **__: str) -> Proved:
        extra.write_bytes(b"x")
        return PROVED

    try:
        with pytest.raises(VerificationError) as caught:
            run(Stub(), write)
    finally:
        extra.unlink()
    assert "extra: written" in caught.value.why


def test_a_bundle_without_models_has_nothing_to_show(tmp_path: Path, stocked: Stocked) -> None:
    stocked.miniature.assemble(tmp_path / "bundle", parts=("runtime", "wheels", "service"))
    with pytest.raises(SmokeError, match="no model"):
        smoke(tmp_path / "bundle", stocked.miniature.recipe)


def test_a_script_can_stand_between_the_interpreter_and_the_service(stocked: Stocked) -> None:
    plain = command(stocked.bundle, ["--port", "0"])
    traced = command(stocked.bundle, ["--port", "0"], ("tracer.py", "report"))
    place = plain.index(str(stocked.bundle / "embedding_sidecar"))
    assert traced == [*plain[:place], "tracer.py", "report", *plain[place:]]
