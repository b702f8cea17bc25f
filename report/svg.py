"""A figure as SVG that can stand in a page: it follows the page's colours, shares no id with another picture, loads
nothing, and says to a screen reader what it shows.
"""

import io
import re
from xml.etree import ElementTree

import numpy as np
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from report.style import GREY, settle, styled

SVG = "http://www.w3.org/2000/svg"
HREF = "{http://www.w3.org/1999/xlink}href"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MOST_MARKS = 2_000  # of one artist; more are drawn as an image inside the SVG
IMAGE_DPI = 200
GRID = "#b0b0b0"  # matplotlib's
SOFT, FAINT = 0.75, 0.31  # opacity of grey text, and of what is as light as the grid
DECIMALS = re.compile(r"-?\d+\.\d{3,}")
FONT_SIZE = re.compile(r"\d[\d.]*px")
REFERENCE = re.compile(r"url\(#([^)]+)\)")
# For a file of its own, which has no page around it: the reader's colours, the ground included.
ALONE = (
    "#{id}{{color:#1d2127;--page:#fff;background:var(--page)}}"
    "@media(prefers-color-scheme:dark){{#{id}{{color:#e6e8eb;--page:#14171b}}}}"
)


def inline_svg(figure: Figure, name: str, title: str, text: str) -> str:
    """A figure as an `<svg>` element for an HTML page.

    Black becomes the page's `currentColor`, as do the grid and grey text in a fainter shade. White becomes the page's
    `--page`, but not in text. Every other colour stays as it is.

    Args:
        name: of the picture; all ids begin with `picture-` and the name.
        title, text: what a screen reader says of it.
    """
    return ElementTree.tostring(_element(figure, name, title, text), encoding="unicode")


def svg_file(inline: str, name: str) -> str:
    """A file of its own of what `inline_svg` has made: light or dark as the reader prefers."""
    start = inline.index(">") + 1
    return f"{inline[:start]}<style>{ALONE.format(id=_id(name))}</style>{inline[start:]}\n"


def _id(name: str) -> str:
    return f"picture-{name}"


def _element(figure: Figure, name: str, title: str, text: str) -> ElementTree.Element:
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(_drawn(figure))
    _drop_unseen(root)
    own = _id(name)
    _rename(root, own)
    for element in root.iter():
        _restyle(element)
        _shorten(element)
    for attribute in ("version", "width", "height"):
        root.attrib.pop(attribute, None)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib |= {
        **{"id": own, "role": "img", "aria-labelledby": f"{own}-title {own}-text"},
        **{"width": width, "height": height, "fill": "currentColor", "font-family": FONTS},
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    for place, (tag, said) in enumerate((("title", title), ("desc", text))):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{own}-{'text' if place else 'title'}"})
        element.text = said
        root.insert(place, element)
    return root


def _drawn(figure: Figure) -> str:
    """What matplotlib writes."""
    for artist in figure.findobj():
        if isinstance(artist, Line2D):
            marks = 0 if artist.get_marker() in ("None", None, "", " ") else np.size(artist.get_xdata(orig=False))
        elif isinstance(artist, Collection):
            marks = max(len(np.atleast_1d(artist.get_offsets())), len(artist.get_paths()))
        else:
            continue
        if marks > MOST_MARKS:
            artist.set_rasterized(True)
    buffer = io.StringIO()
    with styled():
        settle(figure)
        figure.savefig(buffer, format="svg", transparent=True, dpi=IMAGE_DPI, metadata={"Date": None})
    return buffer.getvalue()


def _drop_unseen(root: ElementTree.Element) -> None:
    """Takes out metadata, the style sheet (which would hold for the whole page), blanks, and paths without colour."""
    for parent in list(root.iter()):
        for child in list(parent):
            tag = child.tag.rpartition("}")[2]
            unseen = tag == "path" and child.get("style") == "fill: none"
            if tag in ("metadata", "style") or unseen:
                parent.remove(child)
            elif not (child.tail or "").strip():
                child.tail = None
        if not (parent.text or "").strip():
            parent.text = None


def _rename(root: ElementTree.Element, before: str) -> None:
    """Puts a picture's own id before the ids that something refers to, and takes the others out."""
    used = {element.get(HREF, "")[1:] for element in root.iter() if element.get(HREF, "").startswith("#")}
    used |= {
        found for element in root.iter() for value in element.attrib.values() for found in REFERENCE.findall(value)
    }
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", f"{before}-{own}")
        if HREF in element.attrib:
            target = element.attrib.pop(HREF)
            element.set("href", f"#{before}-{target[1:]}" if target.startswith("#") else target)
        for attribute, value in element.attrib.items():
            if "url(#" in value:
                element.set(attribute, REFERENCE.sub(rf"url(#{before}-\1)", value))


def _restyle(element: ElementTree.Element) -> None:
    """The page's colours and font in the place of the figure's."""
    if "style" not in element.attrib:
        return
    pairs = (pair.partition(":") for pair in element.attrib.pop("style").split(";") if pair.strip())
    style = {key.strip(): value.strip() for key, _, value in pairs}
    is_text = element.tag == f"{{{SVG}}}text"
    if is_text:
        style |= _font(style.pop("font", ""))
        style.pop("font-family", None)  # formulas, which are set letter by letter, keep theirs in their <tspan>
    for kind in ("fill", "stroke"):
        _follow_page(style, kind, is_text)
    if style:
        element.set("style", ";".join(f"{key}:{value}" for key, value in style.items()))


def _font(shorthand: str) -> dict[str, str]:
    """Size, weight and slope of `bold 10px 'DejaVu Sans', ...`, as earlier versions of matplotlib write it."""
    size = FONT_SIZE.search(shorthand)
    if size is None:
        return {}
    found = {"font-size": size[0]}
    for word in shorthand[: size.start()].split():
        if word in ("italic", "oblique"):
            found["font-style"] = word
        elif word == "bold" or word.isdecimal():
            found["font-weight"] = word
    return found


def _follow_page(style: dict[str, str], kind: str, is_text: bool) -> None:
    color = style.get(kind, "").lower()
    shade = {"#000000": 1.0, GRID: FAINT, **({GREY.lower(): SOFT} if is_text else {})}.get(color)
    if shade is not None:
        style[kind] = "currentColor"
        opacity = shade * float(style.get(f"{kind}-opacity", 1))
        if opacity < 1:
            style[f"{kind}-opacity"] = f"{opacity:.2g}"
    elif color == "#ffffff" and not is_text:
        style[kind] = "var(--page,#fff)"


def _shorten(element: ElementTree.Element) -> None:
    """Hundredths of a point in the place of millionths."""
    for attribute in ("d", "x", "y", "points", "transform"):
        value = element.get(attribute)
        if value is None or (attribute == "transform" and ("matrix" in value or "scale" in value)):
            continue
        element.set(attribute, " ".join(DECIMALS.sub(lambda found: f"{float(found[0]):.2f}", value).split()))
