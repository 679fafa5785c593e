"""A checkout whose locked runtime is this machine's CPython 3.11, and whose environment is tiny.

What runs is the builder's own code, from the entrance to the environment; only pdm.lock names one
wheel of a few bytes, so that an environment takes seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.assembly import host_python
from bundler.digests import Digest
from bundler.locks.runtime import RuntimeSpec, read_lock, write_lock
from bundler.project import Project
from bundler.targets import host_target
from tests.support.miniature import package
from tests.support.tinywheel import tiny_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
# Not pyproject.toml: the lock of one wheel was not made from it.
COPIED = ("build", "service", *(f"bundle/{name}" for name in ("golden", "recipe.toml")))
LOCKS = ("bundle/runtime.lock.toml", "bundle/models.lock.toml")


def runtime_archive(folder: Path) -> Path:
    """Write an archive laid out as python-build-standalone's, with this machine's CPython 3.11.

    Unlike the copy that a bundle gets, it has ensurepip, as the real one has.
    """
    place = folder / "python"
    place.mkdir(parents=True)
    host_python.copy(host_python.probe(), place)
    for link in ("python3", "python"):
        (place / "bin" / link).symlink_to("python3.11")
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(library / "ensurepip", place / "lib/python3.11/ensurepip")
    archive = folder / "runtime.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as stream:
        stream.add(place, "python")
    shutil.rmtree(place)
    return archive


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A copy of this checkout's sources at `root`, with locks of its own."""

    root: Path
    archive: Path

    @classmethod
    def make(
        cls, root: Path, archive: Path, groups: Iterable[str] = ("build", "default")
    ) -> Checkout:
        """Copy the sources to `root`; lock `archive` as the runtime and one tiny wheel."""
        for name in (*COPIED, *LOCKS):
            source, target = ROOT / name, root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)
        made = cls(root=root, archive=archive)
        made.wheels.mkdir(exist_ok=True)
        # What the builder imports is there already, in the environment that runs the tests.
        packages = f"{sysconfig.get_path('purelib')}\n".encode()
        wheel = tiny_wheel(made.wheels, "feather", extra={"packages.pth": packages})
        text = '[metadata]\ncontent_hash = "sha256:none"\n'
        text += package("feather", "1.0", [wheel], groups=groups)
        made.project.wheel_lock.write_text(text, encoding="utf-8")
        made._lock_runtime()
        return made

    @property
    def project(self) -> Project:
        """The checkout."""
        return Project(root=self.root)

    @property
    def wheels(self) -> Path:
        """The folder of the one wheel; pip splits what names it at spaces."""
        return self.archive.parent / "wheels"

    @property
    def address(self) -> str:
        """The archive's address below that of all releases."""
        return "/".join(self._spec().url.rsplit("/", 2)[1:])

    def _spec(self) -> RuntimeSpec:
        return read_lock(self.project.runtime_lock)[host_target().name]

    def _lock_runtime(self) -> None:
        spec = self._spec()
        artifact = replace(spec.artifact, digest=Digest.of_file(self.archive))
        locked = {host_target().name: replace(spec, artifact=artifact)}
        write_lock(self.project.runtime_lock, locked)

    def run(
        self, python: Path | str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the builder as a user does who has `python`, no CPython 3.11 and no settings."""
        home = self.root / "home"
        home.mkdir(exist_ok=True)
        bare = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "PYTHON", "PYENV", "XDG_", "SSL_", "UV_"))
            and not name.lower().endswith("_proxy")
            and name not in {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
        }
        settings = {
            "PATH": str(home),
            "HOME": str(home),
            "PYENV_ROOT": str(home),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        return subprocess.run(
            [str(python), "-B", str(self.root / "build"), *arguments],
            cwd=self.root,
            env={**bare, **settings, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
