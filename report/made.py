"""Writes the report: every picture as SVG, `report.html`, and for the page what each picture shows and all names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from core.artifacts import MANIFEST, fingerprint, new_folder, read_manifest, sha256
from core.errors import UserError
from core.json_files import write_json
from core.run_folder import Run
from models.protocols.base import PROTOCOLS
from report.compared import beside
from report.current import check_current
from report.files import RunFiles
from report.folded import asked_together
from report.names import NAMES, names
from report.page import Drawn, page
from report.picture import PICTURES, Picture
from report.style import WIDTH, settle, styled
from report.svg import inline_svg, svg_file

PAGE, PICTURES_FOLDER, INDEX = "report.html", "pictures", "pictures.json"
INDEXED = ("name", "section", "title", "text")  # of each picture
WIDE = 1.25  # times the usual width, from where on a picture takes the whole page
TALL = 2  # times as high as wide: such pictures stand beside each other
PNG_DPI = 200


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written: the page, and how many pictures it shows."""

    path: Path
    pictures: int


def write_report(
    run: Run, out: Path, advance: Callable[[float, str], None], *, made_by: str, paper: Path | None, png: bool
) -> Written:
    """Draws everything again from the run's files. A process that is killed leaves the earlier report, or none.

    Args:
        out: a new folder, an empty one, or that of an earlier report, which is replaced.
        advance: reported 1 and the name of each picture.
        made_by: the program and its version.
        paper: a file of `paper --out`; None for what the project publishes.
        png: whether each picture is also written as PNG.

    Raises:
        UserError: a file of the run is missing, or was changed; or there is something else at `out`.
    """
    _refuse_other_folder(out)
    check_current(run)
    others = beside(run, paper)
    files = RunFiles(run)
    with new_folder(out, fingerprint(evaluation=sha256(run.evaluation), made_by=made_by)) as folder:
        (folder / PICTURES_FOLDER).mkdir()
        shown, lacking = [], []
        for picture in PICTURES.values():
            if reason := picture.lacking(files):
                if _is_expected(picture, files):
                    lacking.append((picture.title, reason))
            else:
                shown.append(_drawn(picture, files, folder / PICTURES_FOLDER, png))
            advance(1, picture.name)
        write_json(folder / INDEX, [{name: getattr(one, name) for name in INDEXED} for one in shown])
        write_json(folder / NAMES, names())
        (folder / PAGE).write_text(page(files, shown, lacking, others, made_by), encoding="utf-8")
    return Written(path=out / PAGE, pictures=len(shown))


def _is_expected(picture: Picture, files: RunFiles) -> bool:
    """Whether the page says why a picture is not there.

    It does not where the picture is of a protocol, or a group of them, that `run` does not ask, and no model is judged
    by.
    """
    if not picture.protocol:
        return True
    about = asked_together(picture.protocol)
    return any(PROTOCOLS[name].is_default or files.models(name) for name in about)


def _drawn(picture: Picture, files: RunFiles, folder: Path, png: bool) -> Drawn:
    """Draws a picture and writes its files."""
    figure, text = picture.draw(files), picture.text(files)
    svg = inline_svg(figure, picture.name, picture.title, text)
    (folder / f"{picture.name}.svg").write_text(svg_file(svg, picture.name), encoding="utf-8")
    if png:
        _write_png(figure, folder / f"{picture.name}.png")
    return Drawn(
        name=picture.name,
        section=picture.section,
        protocol=picture.protocol,
        title=picture.title,
        text=text,
        svg=Markup(svg),
        is_wide=figure.get_figwidth() > WIDE * WIDTH,
        is_tall=figure.get_figheight() > TALL * figure.get_figwidth(),
    )


def _write_png(figure: Figure, path: Path) -> None:
    with styled():
        settle(figure)
        figure.savefig(path, dpi=PNG_DPI, facecolor="white")


def _refuse_other_folder(out: Path) -> None:
    """What is at `out` will be replaced: so it must be a report."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise UserError(f"{out} is not a folder; choose another with --out")
    if any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UserError(f"{out} holds something else than a report; choose another folder with --out")
    if (out / MANIFEST).is_file() and PAGE not in read_manifest(out)["files"]:
        raise UserError(f"{out} holds something else than a report; choose another folder with --out")
