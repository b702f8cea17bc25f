"""Pictures as SVG: the page's colours, ids of their own, words for a screen reader, nothing from elsewhere."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from report.style import BLUE, GREY, figure, styled
from report.svg import MOST_MARKS, SVG, inline_svg, svg_file

HOSTILE = "<script>alert('1')</script> & \"quotes\""
SMALL = 100_000  # bytes


def drawn(title: str = "Stars", marks: int = 5) -> Figure:
    made, (left, right) = figure(1, 2)
    with styled():
        left.bar(["one", title], [1, 2], color=BLUE)
        left.set_title(title)
        left.text(0, 1, "grey", color=GREY)
        left.text(0, 1, "on yellow", color="#1a1a1a")
        left.text(0, 1, "boxed", bbox={"facecolor": "white"})
        left.text(0, 1, "on a bar", color="white")
        right.plot(np.linspace(0, 1, marks), np.linspace(0, 1, marks), "o", color=GREY)
        right.axhline(0.5, color="black")
        right.set_yscale("log")
    return made


def elements(svg: str, tag: str = "") -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(svg).iter() if tag in ("", one.tag.rpartition("}")[2])]


def test_text_and_axes_follow_the_page():
    svg = inline_svg(drawn(), "stars", "Stars", "How often.")
    assert elements(svg)[0].get("fill") == "currentColor"
    assert "#000000" not in svg
    assert "#b0b0b0" not in svg  # the grid
    styles = {one.text: one.get("style", "") for one in elements(svg, "text")}
    assert "fill:" not in styles["one"]
    assert "fill:currentColor" in styles["grey"]
    assert "fill:#1a1a1a" in styles["on yellow"]
    assert "fill:#ffffff" in styles["on a bar"]
    assert "fill:var(--page,#fff)" in svg
    assert BLUE.lower() in svg
    assert GREY.lower() in svg
    assert "DejaVu" not in "".join(styles.values())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("font: 10.5px 'DejaVu Sans', sans-serif; text-anchor: middle", "text-anchor:middle;font-size:10.5px"),
        ("font: italic 700 8px 'DejaVu Sans'", "font-size:8px;font-style:italic;font-weight:700"),
        ("font-size: 8px; font-weight: 700; font-family: 'DejaVu Sans'", "font-size:8px;font-weight:700"),
    ],
)
def test_text_is_in_the_pages_font_whichever_way_matplotlib_writes_it(monkeypatch, before, after):
    drawing = f'<svg xmlns="{SVG}" viewBox="0 0 9 9"><text style="{before}">words</text></svg>'
    monkeypatch.setattr("report.svg._drawn", lambda figure: drawing)
    (text,) = elements(inline_svg(Figure(), "stars", "Stars", ""), "text")
    assert text.get("style") == after


def test_what_a_screen_reader_says():
    root = elements(inline_svg(drawn(), "stars", "Stars", "How often."))[0]
    assert root.get("role") == "img"
    said = {one.get("id"): one.text for one in root if one.tag in (f"{{{SVG}}}title", f"{{{SVG}}}desc")}
    assert [said[name] for name in root.get("aria-labelledby").split()] == ["Stars", "How often."]


def test_two_pictures_share_no_id_and_refer_to_their_own():
    one, other = (inline_svg(drawn(), name, "Stars", "") for name in ("stars", "stars-again"))
    ids = [[found.get("id") for found in elements(svg) if found.get("id")] for svg in (one, other)]
    assert len(ids[0]) == len(set(ids[0])) > 3
    assert not set(ids[0]) & set(ids[1])
    for svg, own in zip((one, other), ids):
        used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
        assert used
        assert used <= set(own)


def test_words_are_words():
    svg = inline_svg(drawn(HOSTILE), "stars", HOSTILE, HOSTILE)
    assert "<script" not in svg
    assert [one.text for one in elements(svg, "text")].count(HOSTILE) == 2
    assert {one.text for one in elements(svg) if one.tag in (f"{{{SVG}}}title", f"{{{SVG}}}desc")} == {HOSTILE}


def test_nothing_is_loaded_and_no_style_leaks():
    svg = inline_svg(drawn(marks=MOST_MARKS + 1), "stars", "Stars", "")
    assert not elements(svg, "style")
    assert not elements(svg, "metadata")
    targets = [value for one in elements(svg) for name, value in one.attrib.items() if name.endswith(("href", "src"))]
    assert any(target.startswith("data:image/png;base64,") for target in targets)
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert set(re.findall(r"https?://[^\"' ]+", svg)) == {SVG}


@pytest.mark.parametrize("kind", ["markers", "points", "bars"])
def test_thousands_of_marks_are_one_image(kind):
    made, (axes,) = figure()
    x = np.random.default_rng(0).random((2, 20_000))
    if kind == "markers":
        axes.plot(*x, ".")
    elif kind == "points":
        axes.scatter(*x, s=2)
    else:
        axes.vlines(x[0], 0, x[1])
    svg = inline_svg(made, "many", "Many", "")
    assert len(elements(svg, "image")) == 1
    assert len(svg) < 5 * SMALL


def test_nothing_is_cut_off_at_the_edge():
    """Axes of a fixed shape below a legend: their layout is right only after a first drawing."""
    made, axes = figure(1, 2, height=3.9)
    for number, one in enumerate(axes):
        one.plot([0, 1], [0, 1], label=f"a curve {number}")
        one.set_box_aspect(1)
        one.set_xlabel("below")
    lines = [one for _ in range(5) for one in axes[0].get_lines()]
    made.legend(handles=lines, loc="outside upper center")
    svg = inline_svg(made, "square", "Square", "")
    height = float(elements(svg)[0].get("viewBox").split()[3])
    lowest = [float(one.get("y")) for one in elements(svg, "text") if one.text == "below"]
    assert len(lowest) == 2
    assert max(lowest) < height - 1


def test_the_same_figure_gives_the_same_file():
    one, other = (inline_svg(drawn(), "stars", "Stars", "How often.") for _ in range(2))
    assert one == other
    assert len(one) < SMALL


def test_a_file_of_its_own_is_light_or_dark():
    inline = inline_svg(drawn(), "stars", "Stars", "How often.")
    alone = svg_file(inline, "stars")
    (style,) = elements(alone, "style")
    assert "prefers-color-scheme:dark" in style.text
    assert set(re.findall(r"(#[\w-]+)\{", style.text)) == {"#picture-stars"}
    assert len(elements(alone)) == len(elements(inline)) + 1
