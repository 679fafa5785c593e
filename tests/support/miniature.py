"""A whole bundle in miniature: a recipe, three locks, and the few bytes that they name.

Laid out as a checkout is, so that everything which takes a Project takes this one too. Assembling
it takes about a second. Nothing in it runs: the runtime and the model are bytes, no programs.
"""

from __future__ import annotations

import base64
import json
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from bundler.artifacts.fetch import Request, fetch
from bundler.artifacts.network import Network
from bundler.artifacts.sources import UrlSource
from bundler.assembly.assemble import Assembled, assemble
from bundler.assembly.components import FetchedInputs
from bundler.assembly.tree import digest_of, source_files
from bundler.console import Progress
from bundler.digests import Artifact, Digest
from bundler.locks.models import ModelFile, ModelSpec, read_models, render_models
from bundler.locks.runtime import read_lock as read_runtimes
from bundler.locks.runtime import write_lock as write_runtimes
from bundler.locks.wheels import read_lock as read_wheels
from bundler.plan import BundlePlan, Locks, Sources, plan
from bundler.project import Project
from bundler.recipe import Recipe, read_recipe
from bundler.targets import TARGETS
from tests.support.badserver import BadServer
from tests.support.standalone import SYSTEM_OF_LINUX, write_release
from tests.support.tinybinaries import elf
from tests.support.tinywheel import tiny_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bundler.artifacts.store import Store

TARGET = TARGETS["linux-x64"]
VERSION = "3.11.9"
REVISION = "0123456789abcdef0123456789abcdef01234567"
EPOCH = 1_700_000_000
PREFIX = "wheeled/model/"
ALLOW = 'allow = ["config.json", "model.safetensors", "[0-9]_*/config.json"]'
RECIPE = f"""
[bundle]
epoch = {EPOCH}
path_budget = 165
default_profile = "safe"
default_model = "tiny"
release_model = "tiny"

[sources]
torch = "https://torch.invalid/cpu"
runtime = "https://runtime.invalid"
hub = "https://hub.invalid"

[components]
heavy = ["Heavy_Weight"]

[models]
{ALLOW}

[models.catalogue.tiny]
repository = "example/tiny"
license = "MIT"
revision = "{REVISION}"

[models.catalogue.wheeled]
repository = "example/wheeled"
license = "MIT"
wheel = "wheeled==1.0"
prefix = "{PREFIX}"

[audit.linux]
floor = "2.28"
system = {json.dumps(["libc.so.6", "libcrypt.so.1", *SYSTEM_OF_LINUX])}

[licences]
allowed = ["MIT", "Python-2.0"]

[diet]
profiles = ["none", "safe"]

[diet.rules.tests]
package = "feather"
paths = ["feather/tests/**"]
profiles = ["safe"]
reason = "tests"
"""
# A safetensors file without tensors: eight bytes of length, then a header (the format's README).
SAFETENSORS = (8).to_bytes(8, "little") + b"{}      "
MODEL_FILES = {
    "config.json": b'{"hidden_size": 2}\n',
    "model.safetensors": SAFETENSORS,
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}\n',
}
SERVICE_FILES = {
    "__main__.py": "import sidecar\n",
    "embed_server.py": "import sidecar\n",
    "sidecar/__init__.py": '"""Tiny."""\n\n__version__ = "0.0.1"\n',
    "sidecar/cli.py": "def main() -> int:\n    return 0\n",
}


def encode_row(row: Sequence[float]) -> str:
    """Return `row` as golden files have it."""
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode("ascii")


@dataclass(kw_only=True)
class Miniature:
    """A tiny checkout at `root`, and the inputs that its locks name, in `root`/inputs.

    `asked` records, for each time that fetched were asked for, the components they were for.
    """

    root: Path
    asked: list[tuple[str, ...]] = field(default_factory=list)

    @classmethod
    def make(cls, root: Path) -> Miniature:
        """Write everything below `root`: the same bytes every time."""
        miniature = cls(root=root)
        for folder in (miniature.inputs, miniature.project.golden):
            folder.mkdir(parents=True)
        for path, text in SERVICE_FILES.items():
            miniature.write_service(path, text)
        miniature.project.recipe.write_text(RECIPE, encoding="utf-8")
        miniature._make_runtime()
        miniature._make_wheels()
        miniature._make_models()
        return miniature

    @property
    def project(self) -> Project:
        """The checkout."""
        return Project(root=self.root)

    @property
    def inputs(self) -> Path:
        """The folder of everything that a real checkout would have to fetch."""
        return self.root / "inputs"

    @property
    def recipe(self) -> Recipe:
        """The recipe, read anew."""
        return read_recipe(self.project.recipe)

    @property
    def locks(self) -> Locks:
        """The three locks, read anew."""
        return Locks(
            runtimes=read_runtimes(self.project.runtime_lock),
            wheels=read_wheels(self.project.wheel_lock),
            models=read_models(self.project.model_lock, self.recipe),
        )

    @property
    def sources(self) -> Sources:
        """What identifies the service as it is now; the builder is always the same."""
        return Sources(
            service=digest_of(source_files(self.project.service)),
            forward=Digest.of_bytes(b"forward"),
            version="0.0.1",
            builder=Digest.of_bytes(b"builder"),
        )

    def write_service(self, path: str, text: str) -> None:
        """Write a file of the service."""
        file = self.project.service / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")

    def plan(self, **options: Any) -> BundlePlan:
        """Return the plan; `options` are those of bundler.plan.plan."""
        options = {"compiler": VERSION, "models": ("tiny", "wheeled"), **options}
        return plan(self.recipe, self.locks, TARGET, self.sources, **options)

    def gather(self, components: Iterable[str]) -> FetchedInputs:
        """Return the fetched inputs as they lie here, and record what they were asked for."""
        self.asked.append(tuple(components))
        files = [path for path in sorted(self.inputs.rglob("*")) if path.is_file()]
        return self._fetched({Digest.of_file(path).sha256: path for path in files})

    def fetch(self, store: Store) -> FetchedInputs:
        """Return the inputs after fetching them into `store` from a web server on loopback."""
        files = [path for path in sorted(self.inputs.rglob("*")) if path.is_file()]
        with BadServer() as server:
            requests = [
                Request(
                    artifact=artifact(path),
                    sources=(UrlSource(url=server.add(f"file{number}", path.read_bytes())),),
                )
                for number, path in enumerate(files)
            ]
            held = fetch(requests, store, network=Network(tries=1), at_once=1)
        return self._fetched({entry.digest.sha256: path for entry, path in held.items()})

    def assemble(self, destination: Path, **options: Any) -> Assembled:
        """Assemble into `destination`, from `inputs`; `options` are those of `plan`."""
        return assemble(self.plan(**options), self.gather, destination, Progress())

    def _fetched(self, files: dict[str, Path]) -> FetchedInputs:
        return FetchedInputs(
            files=files,
            service=self.project.service,
            golden=self.project.golden,
            policy=self.recipe.sections,
            compiler=Path(sys.executable),
        )

    def _make_runtime(self) -> None:
        spec = write_release(self.inputs, TARGET, "https://runtime.invalid", version=VERSION)
        write_runtimes(self.project.runtime_lock, {TARGET.name: spec})

    def _make_wheels(self) -> None:
        feather = tiny_wheel(
            self.inputs,
            "feather",
            modules={
                "feather/__init__.py": "from feather.barb import BARB\n",
                "feather/barb.py": "BARB = 1\n",
                "feather/tests/test_barb.py": "def test() -> None: ...\n",
            },
            script="feather = feather:main",
        )
        heavy = tiny_wheel(
            self.inputs,
            "heavy_weight",
            "2.0",
            tag="cp311-cp311-manylinux_2_17_x86_64",
            modules={"heavy_weight/__init__.py": "MASS = 'heavy'\n"},
            extra={"heavy_weight/native.so": elf()},
            executable=frozenset({"heavy_weight/native.so"}),
            requires=("feather",),
        )
        text = '[metadata]\ncontent_hash = "sha256:none"\n'
        text += package("feather", "1.0", [feather])
        text += package("heavy-weight", "2.0", [heavy], dependencies=["feather>=1"])
        self.project.wheel_lock.write_text(text, encoding="utf-8")

    def _make_models(self) -> None:
        folder = self.inputs / "model"
        for path, data in MODEL_FILES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        # Its bytes differ from the other model's, so that no file serves both by chance.
        contents = {path: data + b"\n" for path, data in MODEL_FILES.items()}
        wheel = tiny_wheel(
            self.inputs,
            "wheeled",
            extra={f"{PREFIX}{path}": data for path, data in contents.items()},
        )
        models = [
            self.spec("tiny", REVISION, MODEL_FILES),
            self.spec("wheeled", Digest.of_file(wheel).sha256[:40], contents, wheel),
        ]
        self.project.model_lock.write_text(render_models(models), encoding="utf-8")

    def spec(
        self,
        name: str,
        revision: str,
        contents: dict[str, bytes],
        wheel: Path | None = None,
        *,
        document: dict[str, Any] | None = None,
    ) -> ModelSpec:
        golden = self.project.golden / f"{name}.json"
        document = document or {
            "model": name,
            "pooling": "mean",
            "normalize": True,
            "dim": 2,
            "texts": ["hello"],
            "vectors": [encode_row((0.6, 0.8))],
        }
        golden.write_text(json.dumps(document, indent=1), encoding="utf-8", newline="\n")
        return ModelSpec(
            name=name,
            repository=f"example/{name}",
            revision=revision,
            license="MIT",
            dim=2,
            max_tokens=8,
            pooling="mean",
            files=tuple(
                ModelFile(path=path, digest=Digest.of_bytes(data))
                for path, data in sorted(contents.items())
            ),
            golden=Digest.of_file(golden),
            wheel=artifact(wheel) if wheel else None,
            prefix=PREFIX if wheel else "",
        )


def artifact(path: Path) -> Artifact:
    """Return the file at `path` as a lock would name it."""
    return Artifact(name=path.name, digest=Digest.of_file(path))


def package(name: str, version: str, files: Iterable[Path], **facts: Any) -> str:
    """Return an entry of pdm.lock; `facts` are keys beside those that every entry has."""
    listed = [
        {"file": path.name, "hash": f"sha256:{Digest.of_file(path).sha256}"} for path in files
    ]
    entry = {"name": name, "version": version, "groups": ["default"], "dependencies": []}
    return tomlkit.dumps({"package": [{**entry, **facts, "files": listed}]}) + "\n"


def snapshot(root: Path) -> dict[str, tuple[str, int, float]]:
    """Return the sha256, mode and date of every file and folder at and below `root`, by path."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        content = Digest.of_file(path).sha256 if path.is_file() else "folder"
        found[path.relative_to(root).as_posix()] = (content, status.st_mode, status.st_mtime)
    return found
