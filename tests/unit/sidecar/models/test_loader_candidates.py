"""The models that are served: which they are, and what is known of them before they are loaded."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import pytest

from sidecar import manifest
from sidecar.engines import Unloaded
from sidecar.errors import DiskError, IntegrityError, UnreachableError
from sidecar.models import loader, memory_needs, prompts, snapshot
from sidecar.models.snapshot import UNKNOWN
from sidecar.process import limits
from sidecar.process.limits import LimitError
from sidecar.process.stdio import Silent
from sidecar.settings import Settings
from tests.support.modelbundle import write_bundle
from tests.support.tinymodel import MAX_TOKENS, WIDTH, tiny_model, write_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMES = ("one", "two", "three")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle with three models, the second of which is its default."""
    files: dict[str, bytes] = {}
    models = []
    for number, name in enumerate(NAMES):
        folder = f"models/{name}"
        made = tiny_model(seed=number)
        files |= {f"{folder}/{path}": data for path, data in made.items()}
        model = manifest.Model(
            name=name,
            repository=f"org/{name}-words",
            revision=str(number) * 40,
            dim=WIDTH,
            max_tokens=MAX_TOKENS,
            pooling="mean",
            snapshot=folder,
        )
        models.append(model)
    write_bundle(tmp_path, files, models, default="two")
    return tmp_path


def named(settings: Settings) -> list[str | None]:
    return [one.known.snapshot.name for one in loader.candidates(settings)]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ((), ["two", "one", "three"]),
        (("one",), ["one"]),
        (("three", "one"), ["three", "one"]),
        (("one", "org/two-words", "three", "two", "one"), ["one", "two", "three"]),
    ],
)
def test_all_of_a_bundle_are_served_or_those_that_are_named(
    bundle: Path, models: Sequence[str], expected: Sequence[str]
) -> None:
    first, *more = models or (None,)
    assert named(Settings(bundle=bundle, model=first, more_models=tuple(more))) == expected


def test_a_model_that_the_bundle_does_not_have_is_told(bundle: Path) -> None:
    with pytest.raises(UnreachableError, match="the model tow is not here") as caught:
        loader.candidates(Settings(bundle=bundle, model="one", more_models=("tow",)))
    assert caught.value.next_step == "--model two"


def test_what_is_known_before_is_what_a_load_finds(bundle: Path) -> None:
    candidate = loader.candidates(Settings(bundle=bundle))[0]
    known = candidate.known
    assert isinstance(known.engine, Unloaded)
    assert (known.engine.dim, known.engine.max_tokens) == (WIDTH, MAX_TOKENS)
    assert known.description.family == "bert"
    loaded = candidate.load(lambda _: None)
    assert (loaded.engine.dim, loaded.engine.max_tokens) == (WIDTH, MAX_TOKENS)
    assert loaded.fingerprint() == known.fingerprint()
    assert known.is_known
    assert loaded.description == known.description


def test_a_damaged_model_does_not_keep_the_first_from_being_served(bundle: Path) -> None:
    shutil.rmtree(bundle / "models" / "one")
    (bundle / "models" / "three" / "config.json").write_bytes(b"{}")
    first, *damaged = loader.candidates(Settings(bundle=bundle))
    first.load(lambda _: None)
    for candidate in damaged:
        with pytest.raises(IntegrityError):
            candidate.load(lambda _: None)
    assert damaged[0].known.description == UNKNOWN


@pytest.mark.parametrize(
    ("config", "texts"), [(b'{"prompts":{"a":"b "}}', {"a": "b "}), (b"{", {})]
)
def test_prompts_are_known_before_a_load(
    tmp_path: Path, config: bytes, texts: dict[str, str]
) -> None:
    first = write_model(tmp_path / "first", tiny_model())
    second = write_model(tmp_path / "second", tiny_model(seed=1) | {prompts.CONFIG: config})
    _, found = loader.candidates(Settings(model=str(first), more_models=(str(second),)))
    assert found.known.prompts.texts == texts
    assert found.known.description.family == "bert"


def test_folders_and_a_cache_may_be_served_together(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first", tiny_model())
    second = write_model(tmp_path / "second", tiny_model(seed=1))
    base = tmp_path / "cache" / "models--a--b"
    write_model(base / "snapshots" / "rev", tiny_model(seed=2))
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text("rev", encoding="ascii")
    settings = Settings(
        model=str(first), more_models=(str(second), "a/b"), model_cache=tmp_path / "cache"
    )
    _, folder, cached = loader.candidates(settings)
    assert folder.known.snapshot.names == ("second",)
    assert folder.known.engine.dim == WIDTH
    assert not folder.known.is_known  # nothing has read all of its files yet
    assert cached.known.snapshot.names == ("a/b", "b")
    assert folder.load(lambda _: None).engine.dim == WIDTH
    with pytest.raises(UnreachableError):
        loader.candidates(replace(settings, more_models=("none",)))


def test_the_engine_without_a_model_serves_itself_alone(bundle: Path) -> None:
    (found,) = loader.candidates(Settings(bundle=bundle, engine="hash"))
    assert found.known.snapshot.names == found.load(lambda _: None).snapshot.names


def test_no_model_is_served_where_none_is_named() -> None:
    assert loader.candidates(Settings()) == ()


def test_files_that_cannot_be_read_are_told_as_that(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, "no right to read")

    monkeypatch.setattr(snapshot, "manifest_of", read)
    with pytest.raises(DiskError) as caught:
        loader.candidates(Settings(bundle=bundle))
    assert caught.value.why == "no right to read"


def test_a_first_model_over_the_limit_of_memory_is_not_loaded(bundle: Path) -> None:
    settings = Settings(bundle=bundle)
    needed = memory_needs.needed_bytes(settings, bundle / "models" / "two")
    most = limits.LIBRARIES.private + needed
    loader.load(replace(settings, max_memory_bytes=most), Silent(), lambda _: None)
    with pytest.raises(LimitError, match="not enough memory") as caught:
        loader.load(replace(settings, max_memory_bytes=most - 1), Silent(), lambda _: None)
    assert caught.value.exit_code == 11
    assert "--max-memory" in caught.value.next_step
    assert caught.value.facts == {"needed_bytes": most, "limit_bytes": most - 1}
    assert not caught.value.may_pass


def test_variables_are_set_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, _ = (one.load for one in loader.candidates(Settings(bundle=bundle)))
    first(lambda _: None)
    changed: list[str] = []
    monkeypatch.setattr("os.putenv", lambda name, _: changed.append(name))
    second(lambda _: None)
    assert changed == []
