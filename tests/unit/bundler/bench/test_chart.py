from __future__ import annotations

from xml.etree import ElementTree as ET

from bundler.bench.chart import NAMES, NUMBERS, WIDTH, draw
from tests.support.benched import contender, made_run, subject

SVG = "{http://www.w3.org/2000/svg}"


def picture(run: dict[str, object]) -> ET.Element:
    return ET.fromstring(draw(run))  # noqa: S314 - our own


def texts(run: dict[str, object]) -> list[str]:
    return [element.text or "" for element in picture(run).iter(f"{SVG}text")]


def test_the_picture_is_xml_and_names_everybody() -> None:
    found = texts(made_run())
    for each in made_run()["subjects"][0]["contenders"]:
        assert each["name"] in found


def test_no_bar_leaves_its_place_and_the_largest_fills_it() -> None:
    bars = [
        (float(bar.get("x", 0)), float(bar.get("width", 0)))
        for bar in picture(made_run()).iter(f"{SVG}rect")
    ][1:]
    assert {left for left, _ in bars} == {NAMES}
    assert max(width for _, width in bars) == WIDTH - NAMES - NUMBERS


def test_nothing_is_drawn_below_the_picture() -> None:
    tree = picture(made_run(subject(), subject(name="xlmr-base")))
    height = float(tree.get("height", 0))
    assert all(float(text.get("y", 0)) < height for text in tree.iter(f"{SVG}text"))


def test_memory_that_nobody_knows_is_not_drawn() -> None:
    ours = contender("sidecar", "sidecar", private_bytes=None)
    run = made_run(subject(contenders=[ours]))
    assert not any("memory" in text for text in texts(run))


def test_the_same_run_gives_the_same_bytes() -> None:
    assert draw(made_run()) == draw(made_run())
