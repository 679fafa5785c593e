from __future__ import annotations

import builtins
import os
import random
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler.digests import SHA256
from bundler.plan import BundlePlan, Locks, plan
from bundler.recipe import PARTS
from sidecar.manifest import (
    Component,
    FileEntry,
    Manifest,
    Model,
    Runtime,
    decode,
    decode_entries,
    encode,
    encode_entries,
    names_of,
)
from tests.support.miniature import TARGET, Miniature

if TYPE_CHECKING:
    from bundler.plan import Sources
    from bundler.recipe import Recipe

QUIET = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Locks, Sources]:
    miniature = Miniature.make(tmp_path_factory.mktemp("miniature") / "project")
    return miniature.recipe, miniature.locks, miniature.sources


def shuffled(locks: Locks, seed: int) -> Locks:
    """Return the same locks with everything in them in another order."""
    chance = random.Random(seed)

    def mixed(items: Any) -> tuple[Any, ...]:
        return tuple(chance.sample(list(items), len(items)))

    return Locks(
        runtimes=dict(mixed(locks.runtimes.items())),
        wheels=replace(
            locks.wheels,
            packages=tuple(
                replace(package, files=mixed(package.files))
                for package in mixed(locks.wheels.packages)
            ),
        ),
        models={
            name: replace(model, files=mixed(model.files))
            for name, model in mixed(locks.models.items())
        },
    )


def digests(value: object) -> list[str]:
    """Return everything in `value` that is called a digest's name."""
    if isinstance(value, dict):
        own = [value[key] for key in ("sha256", "service", "builder") if key in value]
        return own + [found for part in value.values() for found in digests(part)]
    if isinstance(value, (list, tuple)):
        return [found for part in value for found in digests(part)]
    return []


OPTIONS = st.fixed_dictionaries(
    {
        "compiler": st.sampled_from(["3.11.1", "3.11.9"]),
        "models": st.permutations(["tiny", "wheeled", "example/tiny"]).map(lambda m: m[:2]),
        "profile": st.sampled_from(["none", "safe", None]),
        "parts": st.sets(st.sampled_from(PARTS), min_size=1).map(sorted),
        "epoch": st.one_of(st.none(), st.integers(0, 2**31)),
    }
)


@QUIET
@given(options=OPTIONS, seed=st.integers(0, 2**16))
def test_a_plan_follows_from_its_arguments_and_not_from_their_order(
    arguments: tuple[Recipe, Locks, Sources], options: dict[str, Any], seed: int
) -> None:
    recipe, locks, sources = arguments
    one = plan(recipe, locks, TARGET, sources, **options)
    again = plan(recipe, locks, TARGET, sources, **options)
    other = plan(recipe, shuffled(locks, seed), TARGET, sources, **options)
    assert one == again
    assert one.wheels == other.wheels
    assert one.id == again.id == other.id
    assert [one.inputs(name) for name in one.components] == [
        other.inputs(name) for name in one.components
    ]


@QUIET
@given(options=OPTIONS)
def test_everything_in_a_plan_has_a_whole_digest(
    arguments: tuple[Recipe, Locks, Sources], options: dict[str, Any]
) -> None:
    recipe, locks, sources = arguments
    made = plan(recipe, locks, TARGET, sources, **options)
    found = digests(made.document())
    models = sum(len(model.files) + 1 + bool(model.wheel) for model in made.models)
    assert len(found) == 2 + len(made.wheels) + models + bool(made.runtime)
    assert all(SHA256.fullmatch(text) for text in found)


def test_planning_opens_no_file_and_no_connection(
    arguments: tuple[Recipe, Locks, Sources], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, locks, sources = arguments
    before = plan(recipe, locks, TARGET, sources, compiler="3.11.9")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("planning touched the world")

    def unplugged() -> BundlePlan:
        with monkeypatch.context() as patch:
            for module, names in (
                (builtins, ("open",)),
                (os, ("open", "stat", "scandir", "listdir", "getcwd", "getenv")),
                (socket, ("socket", "create_connection", "getaddrinfo")),
            ):
                for name in names:
                    patch.setattr(module, name, refuse)
            return plan(recipe, locks, TARGET, sources, compiler="3.11.9")

    assert unplugged().id == before.id


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\:/"), max_size=12)
NAME = st.text("abcdefgh_-.", min_size=1, max_size=8).filter(lambda name: set(name) != {"."})
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
PATHS = st.lists(NAME, min_size=1, max_size=4).map("/".join)
ENTRIES = st.builds(
    FileEntry,
    path=PATHS,
    mode=st.sampled_from([0o644, 0o755]),
    size=st.integers(0, 2**40),
    sha256=HEX,
)
MODELS = st.builds(
    Model,
    **dict.fromkeys(("name", "repository", "revision", "pooling", "snapshot"), TEXT),
    dim=st.integers(1, 4096),
    max_tokens=st.integers(1, 8192),
    golden=st.one_of(st.none(), PATHS),
)


def names(model: Model) -> set[str]:
    return {name.casefold() for name in names_of(model.name, model.repository, model.aliases)}


MANIFESTS = st.builds(
    Manifest,
    plan=HEX,
    papers=HEX,
    **dict.fromkeys(("target", "version", "profile"), TEXT),
    runtime=st.builds(Runtime, version=TEXT, source=TEXT, executable=PATHS),
    default_model=st.one_of(st.none(), TEXT),
    models=st.lists(MODELS, max_size=2)
    .filter(lambda models: len(models) < 2 or names(models[0]).isdisjoint(names(models[1])))
    .map(tuple),
    components=st.lists(
        st.builds(
            Component,
            name=NAME,
            digest=HEX,
            inputs=HEX,
            files=st.integers(0, 10**6),
            size=st.integers(0, 2**40),
        ),
        max_size=3,
        unique_by=lambda component: component.name,
    ).map(tuple),
    documents=st.lists(ENTRIES, max_size=2).map(tuple),
    floor=st.dictionaries(TEXT, TEXT, max_size=3),
    unreleasable=st.lists(TEXT, max_size=2).map(tuple),
)


@QUIET
@given(manifest=MANIFESTS)
def test_a_manifest_comes_back_as_it_was(manifest: Manifest) -> None:
    assert decode(encode(manifest)) == manifest
    assert encode(decode(encode(manifest))) == encode(manifest)


@QUIET
@given(entries=st.lists(ENTRIES, unique_by=lambda entry: entry.path, max_size=8))
def test_a_list_of_files_comes_back_sorted(entries: list[FileEntry]) -> None:
    found = decode_entries(encode_entries(entries))
    assert list(found) == sorted(entries, key=lambda entry: entry.path)
