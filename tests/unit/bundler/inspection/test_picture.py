from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from bundler.inspection.sizes import WIDTH, ComponentSize, PackageSize, Sizes, draw

SVG = "{http://www.w3.org/2000/svg}"


def component(name: str, *sizes: int) -> ComponentSize:
    shares = tuple(
        PackageSize(name=f"{name}<{number}>", version="1", files=1, size=size)
        for number, size in enumerate(sizes)
    )
    return ComponentSize(name=name, files=len(sizes), size=sum(sizes), packages=shares)


def weighed(*components: ComponentSize) -> Sizes:
    return Sizes(
        plan="0" * 64,
        target="linux-x64",
        profile="safe",
        files=sum(component.files for component in components),
        size=sum(component.size for component in components),
        components=components,
        savings=(),
        components_without_report=(),
    )


SIZES = weighed(component("heavy", 600_000_000, 200_000_000), component("service", 1))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314 - our own


def test_a_picture_is_xml_whatever_the_names_are() -> None:
    assert "heavy<0> 1" in texts(draw(SIZES))


def test_a_picture_is_the_same_every_time() -> None:
    assert draw(SIZES) == draw(SIZES)


def test_bars_are_as_long_as_the_sizes_and_stay_inside() -> None:
    bars = [
        (int(bar.attrib["x"]), int(bar.attrib["width"]))
        for bar in ET.fromstring(draw(SIZES)).iter(f"{SVG}rect")  # noqa: S314 - our own
        if "x" in bar.attrib
    ]
    lengths = [length for _, length in bars]
    assert lengths[0] * 6 // 8 - lengths[1] in (-1, 0, 1)
    assert min(lengths) == 1
    assert all(x + length < WIDTH for x, length in bars)


def test_a_component_of_one_package_is_one_bar() -> None:
    assert [text for text in texts(draw(SIZES)) if text.startswith("service")] == ["service"]


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0.0 MB"), (49_999, "0.0 MB"), (50_000, "0.1 MB"), (1_960_000, "2.0 MB")],
)
def test_sizes_are_shown_in_rounded_megabytes(size: int, shown: str) -> None:
    assert texts(draw(weighed(component("service", size))))[-1] == shown


def test_a_bundle_of_nothing_can_be_drawn() -> None:
    assert "0.0 MB, 0 files" in texts(draw(weighed()))[0]
