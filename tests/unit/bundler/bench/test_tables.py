from __future__ import annotations

from bundler.bench.ratios import figures
from bundler.bench.tables import amount, summary, tables
from tests.support.benched import contender, made_run, subject


def test_every_table_has_as_many_cells_in_each_row_as_in_its_head() -> None:
    width = None
    for line in tables(made_run()):
        cells = line.count(" | ") if line.startswith("|") else None
        assert width is None or cells in (None, width), line
        width = cells


def test_everybody_is_named_and_the_absent_with_their_reason() -> None:
    text = "\n".join(tables(made_run()))
    for each in made_run()["subjects"][0]["contenders"]:
        assert f"| {each['name']} |" in text
    assert "- ollama is absent: it is not installed" in text


def test_engine_and_libraries_are_named() -> None:
    told = {"engine": "reference", "precision": "float32", "limits": {}}
    ours = contender("sidecar", "sidecar", info=told)
    theirs = contender("baseline", "baseline", info={"versions": {"torch": "2.13.0"}})
    text = "\n".join(tables(made_run(subject(contenders=[theirs, ours]))))
    assert "- sidecar: engine reference, precision float32" in text
    assert "- baseline: torch 2.13.0" in text


def test_the_machine_the_texts_and_the_threads_are_named() -> None:
    text = "\n".join(tables(made_run()))
    assert "A Processor" in text
    assert "2 threads for everybody" in text
    assert "24 from Python's documentation topics" in text


def test_a_loud_machine_is_told() -> None:
    warning = "The machine was not quiet"
    assert warning not in "\n".join(tables(made_run()))
    assert warning in "\n".join(tables(made_run(subject(others=[0.01, 0.5]))))


def test_the_summary_shows_value_aim_and_verdict() -> None:
    documents = [figure.document() for figure in figures(subject())]
    lines = list(summary(documents))
    whole = next(line for line in lines if "| whole corpus, texts/s, against sentence" in line)
    assert whole.endswith("| 3.00 | ≥ 1.80 | yes |")


def test_a_figure_that_was_not_measured_says_why_and_is_neither_met_nor_missed() -> None:
    only = subject(contenders=[contender("sidecar", "sidecar")])
    lines = list(summary([figure.document() for figure in figures(only)]))
    line = next(line for line in lines if "int8" in line)
    assert line.endswith("| not measured |  |  |")
    assert any("int8, " in line and "sidecar int8 is absent" in line for line in lines[-2:])


def test_amounts_carry_their_units() -> None:
    assert amount(250_000_000, "bytes") == "250 MB"
    assert amount(0.1, "s") == "100.0 ms"
    assert amount(1.5, "s") == "1.50 s"
    assert amount(0.25, "ratio") == "0.250"
    assert amount(3, "ratio") == "3.00"
