"""Small pieces of HTML. What comes from data is escaped in each of them."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

NOTHING = "-"  # in a cell without a value
LEFT = ' class="m-text"'


def plain(text: str) -> str:
    """Text in which Streamlit sees no markup."""
    return "".join(f"\\{one}" if one in r"\`*_{}[]()<>#+-.!|~$:" else one for one in text)


def listed(words: Sequence[str]) -> str:
    """Words one after the other, the last behind `and`.

    >>> listed(["5 ms"]), listed(["5 ms", "6 ms", "7 ms"])
    ('5 ms', '5 ms, 6 ms and 7 ms')
    """
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def brand(icon: bytes) -> str:
    """The project's name with its icon, an SVG."""
    encoded = base64.b64encode(icon).decode("ascii")
    return f'<div class="m-brand"><img alt="" src="data:image/svg+xml;base64,{encoded}"><span>Marquee</span></div>'


def heading(text: str) -> str:
    """A heading of the second level."""
    return f'<h2 class="m-heading">{escape(text)}</h2>'


def caption(text: str) -> str:
    """A sentence in small letters."""
    return f'<p class="m-caption">{escape(text)}</p>'


def title(text: str, sentence: str) -> str:
    """A page's title, and what it is for."""
    return f'<header class="m-title"><h1>{escape(text)}</h1><p>{escape(sentence)}</p></header>'


def list_heading(name: str, sentence: str, color: str) -> str:
    """The heading of a model's list, with the model's colour before it."""
    dot = f'<span class="m-dot" style="background:{escape(color)}"></span>' if color else ""
    return f'<div class="m-list"><h2>{dot}{escape(name)}</h2><p>{escape(sentence)}</p></div>'


def good(text: str) -> str:
    """A sentence that says that all is well."""
    return f'<p class="m-good">{escape(text)}</p>'


def figures(pairs: list[tuple[str, str]]) -> str:
    """Large figures, each with its name below."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="m-figures">{cells}</dl>'


def table(label: str, headings: Sequence[str], rows: Iterable[str], texts: Sequence[str] = ()) -> str:
    """A table that scrolls by itself where it is too wide.

    Args:
        label: what a screen reader calls it.
        rows: HTML of each row, a `<tr>`, in which what comes from data is escaped.
        texts: those of the headings whose columns hold text.
    """
    cells = "".join(f'<th scope="col"{LEFT if one in texts else ""}>{escape(one)}</th>' for one in headings)
    return (
        f'<div class="m-scroll" tabindex="0" role="group" aria-label="{escape(label)}">'
        f'<table class="m-table"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def row(name: str, cells: Iterable[str], kind: str = "") -> str:
    """A row of a table.

    Args:
        cells: their HTML, each a `<td>` or its content.
        kind: a class of the stylesheet.
    """
    inner = "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{kind}"><th scope="row">{escape(name)}</th>{inner}</tr>'
