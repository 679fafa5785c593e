"""Whether a bundle does its job: it starts, its vectors are the golden ones, it stays as it was.

And whether the diet harmed it. The service is started once more under a tracer, answers golden
texts, a PDF and a Markdown file, and is stopped. Then every path that it opened and every module
that it looked for is held against the rules: an attempt at something that a rule took away is a
failure, even where the program would have shrugged it off.
"""

from __future__ import annotations

import ctypes
import io
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pypdfium2 as pdfium  # type: ignore[import-untyped]
import pypdfium2.raw as pdfium_c  # type: ignore[import-untyped]

from bundler.assembly import runtime
from bundler.assembly.exclusions import removing
from bundler.console import Progress
from bundler.errors import SmokeError
from bundler.inspection import tracer
from bundler.inspection.inventory import source_of
from bundler.launch import TEXT, RunningService, command
from bundler.profiles import parse_rules, rules_for
from bundler.targets import target_named
from bundler.verify import verify
from sidecar.manifest import Manifest, Model, read
from sidecar.models.golden import MIN_COSINE, Golden
from sidecar.models.golden import read as read_golden

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bundler.profiles import DietRule
    from bundler.recipe import Recipe
    from bundler.targets import Target

START_SECONDS = 240.0
BATCH = 16
# A few texts reach every module; the golden vectors were compared with all of them.
TRACED_TEXTS = 3
# The package without which there is no reference engine.
REFERENCE = "sentence_transformers"
SAID = "The quick brown fox jumps over the lazy dog."
# What the builder puts back itself.
REMADE = frozenset({"bytecode"})
SUFFIXES = (
    *(".py", "/__init__.py", ".so", ".abi3.so", ".pyd", ".cp311-win_amd64.pyd"),
    *(".cpython-311-x86_64-linux-gnu.so", ".cpython-311-aarch64-linux-gnu.so"),
    ".cpython-311-darwin.so",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoked:
    """What was seen: the models, the number of texts, the worst cosine of any engine.

    `ready_s` is the time until the engine of the bundle's own choice was ready; `profile` is the
    diet, and `proved` what was traced to prove it, engine by engine.
    """

    models: tuple[str, ...]
    texts: int
    worst: float
    ready_s: float
    profile: str
    proved: tuple[Proved, ...]


def smoke(bundle: Path, recipe: Recipe) -> Smoked:
    """Start the bundle in an empty environment, compare its vectors, stop it, verify it again.

    So with every engine and every model it has; each engine is run once more, traced, and held
    against the diet's rules in `recipe`. Raises SmokeError with the evidence, and VerificationError
    if running changed a byte.
    """
    manifest = verify(bundle, Progress()).manifest
    if not manifest.models:
        raise SmokeError("there is no model in this bundle", why="it was assembled without models")
    goldens = {model.name: _golden(bundle, model) for model in manifest.models}
    names = engines(bundle, manifest)
    seen = [_run(bundle, engine, goldens) for engine in names]
    texts = goldens[manifest.models[0].name].texts[:TRACED_TEXTS]
    proved = tuple(prove(bundle, recipe, texts, engine=engine) for engine in names)
    verify(bundle, Progress())
    return Smoked(
        models=tuple(goldens),
        texts=sum(len(golden.texts) for golden in goldens.values()),
        worst=min(worst for worst, _ in seen),
        ready_s=seen[0][1],
        profile=manifest.profile,
        proved=proved,
    )


def engines(bundle: Path, manifest: Manifest) -> tuple[str, ...]:
    """Return the values of --engine that a bundle has something for, its own choice first."""
    site = bundle / target_named(manifest.target).site_packages
    return ("auto", "reference") if (site / REFERENCE).is_dir() else ("auto",)


def _golden(bundle: Path, model: Model) -> Golden:
    if model.golden is None:
        raise SmokeError(f"there are no golden vectors for {model.name} in this bundle")
    return read_golden(bundle / model.golden)


def _run(bundle: Path, engine: str, goldens: Mapping[str, Golden]) -> tuple[float, float]:
    """Return the worst cosine of one engine to any of `goldens`, and the seconds until ready."""
    started = time.monotonic()
    arguments = [*TEXT, "--port", "0", "--engine", engine]
    with RunningService.start(command(bundle, arguments), environment={}) as service:
        service.wait_ready(START_SECONDS)
        ready_s = time.monotonic() - started
        cosines = [_worst(service, engine, name, golden) for name, golden in goldens.items()]
        service.end()
    return min(cosines), ready_s


def _worst(service: RunningService, engine: str, model: str, golden: Golden) -> float:
    """Return the worst cosine of one model's vectors. Raises SmokeError if it is too small."""
    vectors: list[list[float]] = []
    for at in range(0, len(golden.texts), BATCH):
        texts = golden.texts[at : at + BATCH]
        body = {"texts": texts, "pooling": golden.pooling, "model": model}
        vectors += service.request("/embed", body)["vectors"]
    worst = float(golden.cosines(vectors).min())
    if worst < MIN_COSINE:
        raise service.failure(
            f"with --engine {engine} the worst cosine to the golden vectors of {model} is "
            f"{worst:.6f}"
        )
    return worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt at something that a rule removed: what it was, and the path that is not there."""

    what: str
    path: str
    rule: DietRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """What was held against the rules: how many modules, how many files that are there."""

    modules: int
    files: int


def prove(bundle: Path, recipe: Recipe, texts: Sequence[str], *, engine: str = "auto") -> Proved:
    """Run the bundle at `bundle` under the tracer and hold what it did against its profile.

    Raises SmokeError naming path, rule and reason, or with the evidence if it does not work.
    """
    manifest = read(bundle)
    with tempfile.TemporaryDirectory(prefix="sidecar-trace-") as name:
        folder = Path(name).resolve()
        record = folder / "report"
        through = (tracer.__file__, str(record), str(bundle))
        exercise(bundle, folder, texts, through=through, engine=engine)
        seen = parse(record.read_text(encoding="utf-8"))
    found = attempts(seen, bundle, manifest, recipe)
    if found:
        raise SmokeError(
            f"this bundle looks for {len(found)} things that its diet removed",
            why="\n    ".join(
                f"{attempt.what}: {attempt.path}, removed by the rule {attempt.rule.name} "
                f"({attempt.rule.reason})"
                for attempt in found
            ),
            next_step="add them to the rule's `keep` in bundle/recipe.toml and assemble again",
        )
    target = target_named(manifest.target)
    return Proved(
        modules=sum(any(_is_there(bundle, p) for p in _places(m, target)) for m in seen["module"]),
        files=sum(_is_there(bundle, path) for path in seen["open"]),
    )


def exercise(
    bundle: Path,
    folder: Path,
    texts: Sequence[str],
    *,
    through: Sequence[str],
    engine: str = "auto",
) -> None:
    """Start the service, have it embed `texts`, a PDF and a Markdown file in `folder`, stop it.

    `through` stands between the interpreter and the service. Raises SmokeError with the evidence.
    """
    documents = folder / "documents"
    documents.mkdir()
    (documents / "note.md").write_text(f"# A note\n\n{SAID}\n", encoding="utf-8")
    (documents / "page.pdf").write_bytes(pdf(SAID))
    arguments = [*TEXT, "--port", "0", "--engine", engine, "--allow-dir", str(documents)]
    with RunningService.start(command(bundle, arguments, through), environment={}) as service:
        service.wait_ready(START_SECONDS)
        service.request("/embed", {"texts": list(texts)})
        for document in sorted(documents.iterdir()):
            answer = service.request("/embed-file", {"path": str(document)})
            if SAID not in " ".join(answer["chunks"]):
                raise service.failure(f"{document.name} was read as {answer['chunks']!r}")
        service.end()


def parse(report: str) -> dict[str, set[str]]:
    """Return what the tracer wrote: paths opened and listed, and modules that were looked for.

    Raises SmokeError where that is nothing.
    """
    names: dict[str, set[str]] = {"open": set(), "list": set(), "module": set()}
    for line in report.splitlines():
        kind, name = json.loads(line)
        names[kind].add(name)
    if not names["open"] or not names["module"]:
        raise SmokeError("the trace is empty", why="the service was started without it")
    return names


def attempts(
    seen: Mapping[str, Iterable[str]], bundle: Path, manifest: Manifest, recipe: Recipe
) -> tuple[Attempt, ...]:
    """Return each attempt at a path that is not in the bundle because of a rule, sorted."""
    target = target_named(manifest.target)
    site, python = f"{target.site_packages}/", "python/"
    rules = parse_rules(recipe.sections.get("diet", {}))
    of_wheels = rules_for(
        rules,
        profile=manifest.profile,
        target=target,
        packages=frozenset(rule.package for rule in rules),
    )
    # A stand-in for the locked runtime lacks the same things.
    of_runtime = [rule for rule in runtime.rules_for(target) if rule.name not in REMADE]

    def rule_for(path: str) -> DietRule | None:
        source = source_of(path)
        if source.startswith(site):
            rule = removing(source.removeprefix(site), of_wheels)
            if rule is not None:
                return rule
        if source.startswith(python):
            own = (rule for rule in of_wheels if rule.package == "python")
            return removing(source.removeprefix(python), [*of_runtime, *own])
        return None

    # A listed folder that is there shows only what is there; one that is not stands for its files.
    wanted: list[tuple[str, tuple[str, ...]]] = [("opened", (path,)) for path in seen["open"]]
    wanted += [("listed", (f"{p}/x",)) for p in seen["list"] if not _is_there(bundle, p)]
    wanted += [(f"imported {name}", _places(name, target)) for name in seen["module"]]
    found = []
    for what, places in wanted:
        if any(_is_there(bundle, place) for place in places):
            continue
        ruled = ((place, rule_for(place)) for place in places)
        found += [Attempt(what=what, path=p, rule=rule) for p, rule in ruled if rule][:1]
    return tuple(sorted(found, key=lambda attempt: (attempt.path, attempt.what)))


def _places(module: str, target: Target) -> tuple[str, ...]:
    """Return where the file of `module` may be, from the bundle's root."""
    path = module.replace(".", "/")
    roots = (target.site_packages, target.stdlib, f"{target.stdlib}/lib-dynload")
    return tuple(f"{root}/{path}{suffix}" for root in roots for suffix in SUFFIXES)


def _is_there(bundle: Path, path: str) -> bool:
    return (bundle / path).exists()


def pdf(text: str) -> bytes:
    """Return a PDF with one page that says `text`."""
    document = pdfium.PdfDocument.new()
    page = document.new_page(width=612, height=792)
    shape = pdfium_c.FPDFPageObj_NewTextObj(document, b"Helvetica", 12)
    said = f"{text}\0".encode("utf-16-le")
    pdfium_c.FPDFText_SetText(shape, (ctypes.c_ushort * (len(said) // 2)).from_buffer_copy(said))
    pdfium_c.FPDFPageObj_Transform(shape, 1, 0, 0, 1, 72, 720)
    pdfium_c.FPDFPage_InsertObject(page, shape)
    page.gen_content()
    made = io.BytesIO()
    document.save(made)
    return made.getvalue()
