"""What a release consists of: its bundles, and every file that is made of them and checked."""

from __future__ import annotations

import platform
import re
import shutil
import uuid
import zlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from bundler.archive import PRODUCT, SUFFIX, name_of, split_file, write_tar_zst, write_zip
from bundler.assembly.tree import text_of
from bundler.atomic import PLAIN, set_mode
from bundler.build_context import BuildContext, BuildOptions
from bundler.bundle import DOCUMENTS, ListedBundle, read_bundle
from bundler.digests import Digest
from bundler.errors import (
    BundlerError,
    PolicyError,
    UnreachableError,
    UnsupportedError,
    UsageError,
    VerificationError,
)
from bundler.images import image
from bundler.images.layers import Layers
from bundler.locks.runtime import RuntimeSpec
from bundler.project import git
from bundler.release import verify_sidecar
from bundler.targets import host_target
from sidecar import manifest
from sidecar.manifest import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from bundler.artifacts.store import Store
    from bundler.console import Console, Progress
    from bundler.project import Project
    from bundler.recipe import Recipe

VERIFIER = "verify_sidecar.py"
BUILD_TYPE = "urn:sidecar:build:release:v1"
LOCAL_BUILDER = "urn:sidecar:builder:local"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, BUILD_TYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseContents:
    """What is to be released: the bundles, what each image stands on, and what made them.

    `bases` are tars of root file systems by target; a Linux bundle without one gets no image.
    `asked` is what the caller chose, `found` what followed on this machine; `inputs` are sha256 by
    name: the locks, the recipe, the image's bases. `source` is the repository's address, if known.
    Parts have up to `part_bytes` bytes, if archives are to be cut at all.
    """

    bundles: tuple[ListedBundle, ...]
    bases: Mapping[str, Path]
    epoch: int
    asked: Mapping[str, object]
    found: Mapping[str, object]
    inputs: Mapping[str, str]
    commit: str | None
    source: str | None = None
    builder: str = LOCAL_BUILDER
    part_bytes: int | None = None

    @property
    def version(self) -> str:
        """The version of everything in it."""
        return self.bundles[0].manifest.version


def compressor_versions() -> dict[str, str]:
    """Return the versions of what decides compressed bytes, beside the builder itself."""
    return {
        "deflate": version("deflate"),
        "python": platform.python_version(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "zstandard": f"{zstandard.__version__} {'.'.join(map(str, zstandard.ZSTD_VERSION))}",
    }


def write_release(edition: ReleaseContents, folder: Path, store: Store, progress: Progress) -> None:
    """Write every artifact, the statement and SHA256SUMS into the empty `folder`, and check them.

    The same edition gives the same bytes. Raises VerificationError, PolicyError, DiskError.
    """
    for bundle in edition.bundles:
        _archives(bundle, edition, folder, progress)
    _image(edition, folder, store, progress)
    (folder / VERIFIER).write_bytes(verifier())
    digests = {path.name: Digest.of_file(path).sha256 for path in sorted(folder.iterdir())}
    name = f"{PRODUCT}-{edition.version}.provenance.json"
    (folder / name).write_bytes(render_statement(edition, digests))
    digests[name] = Digest.of_file(folder / name).sha256
    (folder / verify_sidecar.SUMS).write_bytes(checksums(digests))
    for path in folder.iterdir():
        set_mode(path, PLAIN)
    check_written(folder, progress)


def verifier() -> bytes:
    """Return the verifier as it ships: with the manifest's reader in it, and for Python 3.8."""
    program, reader = (
        text_of(Path(str(module.__file__))).decode() for module in (verify_sidecar, manifest)
    )
    # The head is there already, and what newer dataclasses can be asked for changes nothing here.
    _, _, body = reader.partition("from __future__ import annotations\n\n")
    body = body.replace(", slots=True, kw_only=True", "")
    imported = r"from sidecar\.manifest import \([^)]*\)\n"
    return re.sub(imported, lambda _: body, program, count=1).encode()


def checksums(digests: Mapping[str, str]) -> bytes:
    """Return SHA256SUMS as `sha256sum --check` reads it, sorted by name."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def check_written(path: Path, progress: Progress) -> list[verify_sidecar.Report]:
    """Run the verifier that ships on `path`.

    Raises VerificationError naming each difference, UsageError where there is nothing to check.
    """
    step = "check"
    progress.start(step, None)
    try:
        reports = verify_sidecar.check(path, lambda size: progress.advance(step, size))
    except verify_sidecar.ArgumentError as error:
        raise UsageError(
            "nothing here can be verified",
            why=str(error),
            next_step="name a bundle, an archive of one, or a release",
        ) from error
    progress.finish(step)
    found = [f"{one.subject}: {line}" for one in reports for line in one.differences]
    if found:
        raise VerificationError(
            f"{path.name} differs in {len(found)} places from its own manifest or checksums",
            why="\n    ".join(found),
            next_step="download it again, or make it again: python3 build release",
        )
    return reports


def _archives(
    bundle: ListedBundle, edition: ReleaseContents, folder: Path, progress: Progress
) -> None:
    stem = name_of(bundle.manifest, suffix="")
    size = sum(component.size for component in bundle.manifest.components)
    for name, write_archive in ((f"{stem}{SUFFIX}", write_tar_zst), (f"{stem}.zip", write_zip)):
        progress.start(name, size)
        write_archive(
            bundle.root,
            folder / name,
            epoch=edition.epoch,
            on_bytes=lambda count, name=name: progress.advance(name, count),  # type: ignore[misc]
        )
        progress.finish(name)
        _cut(folder / name, edition)
    for document in DOCUMENTS:
        shutil.copyfile(bundle.root / document, folder / f"{stem}.{document}")


def _image(edition: ReleaseContents, folder: Path, store: Store, progress: Progress) -> None:
    """Write one image for all machines that it can be for."""
    chosen = [one for one in edition.bundles if one.manifest.target in edition.bases]
    if not chosen:
        return
    with Layers(store, progress) as layers:
        images = [
            image.compose(
                bundle.root,
                layers,
                base=edition.bases[bundle.manifest.target],
                epoch=edition.epoch,
                revision=edition.commit,
            )
            for bundle in chosen
        ]
    name = name_of(*(bundle.manifest for bundle in chosen), suffix=".oci.tar")
    image.write(images, folder / name, name=f"{PRODUCT}:{edition.version}", epoch=edition.epoch)
    _cut(folder / name, edition)


def _cut(archive: Path, edition: ReleaseContents) -> None:
    if edition.part_bytes is not None:
        split_file(archive, edition.part_bytes)


def models_of(
    recipe: Recipe, locked: Collection[str], asked: Sequence[str], *, is_dry: bool
) -> tuple[tuple[str, ...], list[str]]:
    """Return the models to embed, those `asked` for or the one that the recipe releases.

    In a dry run the recipe's default model stands in for one that is not `locked`, which is told
    beside them. Raises PolicyError.
    """
    if asked:
        return tuple(asked), []
    if recipe.release_model in locked:
        return (recipe.release_model,), []
    text = f"the model {recipe.release_model}, which a release carries, is not locked"
    if not is_dry:
        raise PolicyError(
            text,
            why="bundle/models.lock.toml has no entry for it",
            next_step=f"python3 build lock --models {recipe.release_model}, or --model",
        )
    return (recipe.default_model,), [f"{text}; {recipe.default_model} stands in"]


def assembled(
    targets: Iterable[str], options: BuildOptions, project: Project, console: Console
) -> tuple[tuple[ListedBundle, ...], dict[str, BundlerError]]:
    """Assemble each target into its own folder; a present bundle of the same plan is reused.

    Raises what assembling raises. In a dry run a target that cannot be had here, since a lock or
    the network lacks something, is told with its error beside the bundles instead.
    """
    present: list[ListedBundle] = []
    missing: dict[str, BundlerError] = {}
    for name in targets:
        console.say(f"bundle {name}")
        try:
            present.append(_bundle(replace(options, target=name), project, console))
        except (UnreachableError, UnsupportedError) as error:
            if options.is_release:
                raise
            missing[name] = error
            console.say(f"missing {name}: {error.what}" + (f"; {error.why}" if error.why else ""))
    return tuple(present), missing


def _bundle(options: BuildOptions, project: Project, console: Console) -> ListedBundle:
    context = BuildContext.gather(options, project, console)
    if options.target != host_target().name:
        # Its wheels are hundreds of megabytes: first that which is the likeliest to be missing.
        runtime = context.plan().runtime
        if isinstance(runtime, RuntimeSpec):
            request = context.resolver.runtime(runtime)
            if not options.is_release:
                context.resolver.require_connection(request)
            context.resolver.fetch([request])
    context.assemble()
    return read_bundle(context.output)


# Sources: in-toto Statement v1, SLSA Provenance v1. The pipeline attests the artifacts.
def render_statement(edition: ReleaseContents, subjects: Mapping[str, str]) -> bytes:
    """Return the statement about `subjects`, the sha256 of every artifact by its name.

    Its invocation's name follows from everything else in it: no clock and no chance is asked.
    """
    source = {"name": "source", "digest": {"gitCommit": edition.commit}}
    if edition.source is not None:
        source["uri"] = edition.source
    inputs = _named(edition.inputs)
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": dict(edition.asked),
        "internalParameters": dict(edition.found),
        "resolvedDependencies": inputs if edition.commit is None else [source, *inputs],
    }
    subject = _named(subjects)
    identity = canonical([definition, subject, edition.builder]).decode()
    return canonical(
        {
            "_type": verify_sidecar.STATEMENT,
            "subject": subject,
            "predicateType": verify_sidecar.PROVENANCE,
            "predicate": {
                "buildDefinition": definition,
                "runDetails": {
                    "builder": {"id": edition.builder, "version": compressor_versions()},
                    "metadata": {"invocationId": f"urn:uuid:{uuid.uuid5(NAMESPACE, identity)}"},
                },
            },
        }
    )


def _named(sums: Mapping[str, str]) -> list[dict[str, object]]:
    return [{"name": name, "digest": {"sha256": sums[name]}} for name in sorted(sums)]


def read_checkout(root: Path) -> tuple[str | None, list[str]]:
    """Return the commit of the checkout at `root`, and of no other around it, if git knows one.

    Beside it stands why a release cannot be made of it, if so.
    """
    commit, top = git(root, "rev-parse", "HEAD"), git(root, "rev-parse", "--show-toplevel")
    if not commit or not top or Path(top[0]).resolve() != root.resolve():
        return None, ["the sources are not a git checkout"]
    # Asked for: a user's settings may leave out the files that git does not know.
    changes = git(root, "status", "--porcelain", "--untracked-files=normal")
    if changes is None:
        return commit[0], ["git does not say whether the checkout has uncommitted changes"]
    return commit[0], ["the checkout has uncommitted changes"] if changes else []
