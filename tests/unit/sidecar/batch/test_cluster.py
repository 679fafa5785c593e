from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from sidecar.batch import ray_environment
from sidecar.batch.actor import EngineActor, Task, known
from sidecar.batch.embedder import TableEmbedder, Unheard, validated
from sidecar.batch.folders import ITEM, Folders, by_item
from sidecar.batch.inputs import Rows
from sidecar.errors import UsageError
from sidecar.models.loader import load
from sidecar.settings import Settings
from tests.support import batches
from tests.support.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def task(**expected: object) -> Task:
    asked = validated({"chunk_size": 60, "chunk_overlap": 0})
    engine = batches.loaded().engine
    return Task(
        settings=Settings(engine="hash"),
        asked=asked,
        dtype="float32",
        truncate="right",
        chunking=asked.chunking(engine, prompt_tokens=0),
        expected=expected,
    )


def sent(value: Any) -> Any:
    """Return what arrives at another node."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (our own)


def test_an_actor_of_the_driver_s_own_bundle_embeds() -> None:
    settings = Settings(engine="hash")
    loaded = load(settings, Unheard(), lambda _: None)
    embedder = TableEmbedder(settings, loaded, validated({}))
    actor = EngineActor(sent(task(**known(loaded, embedder))))
    table = batches.texts("one two", None)
    (made,) = actor(table)
    assert made.equals(embedder(table))


def test_an_actor_of_another_bundle_refuses_its_first_table() -> None:
    actor = EngineActor(task(fingerprint="another", plan=None))
    with pytest.raises(UsageError, match="another bundle") as caught:
        list(actor(batches.texts("one")))
    assert "fingerprint is" in caught.value.why
    assert "not another" in caught.value.why
    assert "plan" not in caught.value.why


def test_an_actor_divides_documents_and_tells_whose_chunks_they_are(tmp_path: Path) -> None:
    for name, text in {"a.txt": "one two three " * 10, "b.txt": "", "c.md": "four"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = Folders([tmp_path], max_bytes=1 << 20).part(1, 2)
    tables = list(Folders([tmp_path], max_bytes=1 << 20).tables())
    assert [table.column(ITEM)[0].as_py() for table in found.tables()] == [1, 2]
    actor = EngineActor(task())
    (made,) = actor(pa.concat_tables(tables))
    actor.__del__()
    assert made.column(ITEM).to_pylist() == [0, 0, 0, 1, 2]
    assert made.column("problem").to_pylist() == [None, None, None, "document-empty", None]
    assert made.column("vector").null_count == 1


@pytest.mark.parametrize("first", [0, 1, 8, 15, 19])
def test_parts_of_rows_are_the_rows_of_the_whole(tmp_path: Path, first: int) -> None:
    table = pa.table({"text": [str(number) for number in range(13)]})
    paths = batches.files(
        tmp_path, {"a.parquet": table, "b.csv": "text\nx\ny\n", "c.jsonl": '{"text": "z"}\n' * 5}
    )
    rows = Rows(paths, text_column="text", id_column=None)
    whole = pa.concat_tables([block.table for block in rows.blocks(0)])
    part = sent(rows.part(first, min(7, 20 - first)))
    assert pa.concat_tables(list(part.tables())).equals(whole.slice(first, 7))


def test_a_part_knows_of_its_own_files_alone(tmp_path: Path) -> None:
    paths = batches.files(tmp_path, {f"{number}.csv": "text\na\nb\n" for number in range(500)})
    rows = Rows(paths, text_column="text", id_column=None)
    assert len(pickle.dumps(rows.part(600, 10))) < 2_000 + 10 * len(str(tmp_path))


def test_documents_that_come_in_pieces_are_put_together() -> None:
    tables = [pa.table({ITEM: items}) for items in ([0, 0, 1], [1, 1], [1, 2], [3], [4, 5])]
    found = [table.column(ITEM).to_pylist() for table in by_item(iter(tables))]
    assert found == [[0, 0], [1, 1, 1, 1], [2], [3], [4], [5]]


def test_a_cluster_of_one_s_own_has_a_token_and_the_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr("os.environ", environment)
    ray_environment.prepare("10.0.0.1:6379")
    assert "RAY_AUTH_TOKEN" not in environment
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "127.0.0.1" in environment["RAY_USAGE_STATS_REPORT_URL"]
    tokens = set()
    for _ in range(2):
        ray_environment.prepare("local")
        tokens.add(environment["RAY_AUTH_TOKEN"])
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert {len(token) for token in tokens} == {64}
    assert len(tokens) == 2


def test_without_ray_the_profile_that_has_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\na\n", encoding="utf-8")
    program = (
        "import runpy, sys\n"
        "sys.modules['ray'] = None\n"
        "sys.argv = ['', 'embed', 'in.csv', '--output', 'out', '--engine', 'hash']\n"
        f"runpy.run_path({str(ROOT / 'service')!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", program],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
        env={"RAY_ADDRESS": "auto"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "the profile cluster, or leave out --ray and unset RAY_ADDRESS" in done.stderr
    assert not (tmp_path / "out").exists()
