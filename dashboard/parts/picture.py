"""A picture of the run's report, in the page's own colours where it is drawn with `currentColor`."""

import re
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from dashboard.parts.words import caption, heading

VIEW_BOX = re.compile(r'viewBox="\S+ \S+ (\S+) \S+"')
WIDE = 640  # points; pictures of the usual width are narrower
JS = """
export default function ({ data, parentElement }) {
  const read = new DOMParser().parseFromString(data.svg, "image/svg+xml");
  const svg = read.documentElement;
  svg.querySelectorAll("script, style, foreignObject").forEach((one) => one.remove());
  svg.setAttribute("role", "img");
  svg.removeAttribute("aria-labelledby");
  svg.setAttribute("aria-label", data.text);
  svg.removeAttribute("width");
  svg.removeAttribute("height");
  const figure = document.createElement("figure");
  figure.append(svg);
  parentElement.querySelector("figure")?.remove();
  parentElement.append(figure);
}
"""
CSS = """
figure { margin: 0; color: var(--st-text-color); --page: var(--st-background-color); }
svg { display: block; width: 100%; height: auto; }
"""


@st.cache_resource(show_spinner=False)
def _component() -> Callable:
    return st.components.v2.component("marquee_picture", css=CSS, js=JS)


@st.cache_data(show_spinner=False, max_entries=200)
def _svg(path: str, modified: float) -> str:
    """A file's text; read again where it changes.

    Args:
        modified: when it last did.
    """
    return Path(path).read_text(encoding="utf-8")


def is_wide(svg: Path) -> bool:
    """Whether a picture was drawn for the page's whole width."""
    found = VIEW_BOX.search(_svg(str(svg), svg.stat().st_mtime)[:2000])
    return found is not None and float(found[1]) > WIDE


def picture(name: str, title: str, text: str, svg: Path) -> None:
    """Draws a picture with its title and caption, in a card.

    Args:
        text: the caption, which a screen reader reads in the picture's place.
    """
    with st.container(border=True, key=f"{'wide' if is_wide(svg) else 'usual'}-{name}"):
        st.html(heading(title))
        _component()(key=f"picture-{name}", data={"svg": _svg(str(svg), svg.stat().st_mtime), "text": text})
        st.html(caption(text))
