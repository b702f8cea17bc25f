"""The beginning of every notebook, and how it displays a picture."""

import atexit
import io
import os
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path

from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure
from PIL import Image as PIL

from core.artifacts import CHECKOUT
from core.errors import UserError
from core.run_folder import DEFAULT_DATASET, DEFAULT_RUNS, Run
from report.files import RunFiles
from report.picture import PICTURES
from report.style import settle, styled

RUN = "MARQUEE_RUN"  # the environment variable that names another run folder
DOTS = 140  # per inch
COLORS = 128
DISPLAYED = 100  # pixels per inch, so that a sharp screen has more dots than pixels


def begin() -> RunFiles:
    """The files of the run that `$MARQUEE_RUN` names, or else of `runs/ml-100k`, and what `quiet` does.

    Raises:
        UserError: there is no `evaluation.json`; the message names the command that writes it.
    """
    chosen = os.environ.get(RUN)
    run = Run(Path(chosen).absolute() if chosen else DEFAULT_RUNS / DEFAULT_DATASET)
    quiet()
    if not run.evaluation.is_file():
        raise UserError(f"{run.evaluation} is missing; run: {run.command('run')}, or set {RUN} to a run folder")
    return RunFiles(run)


def quiet() -> None:
    """Makes the checkout the working folder, as for the commands, and silences the warnings of libraries."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Merlin imports TensorFlow where it is installed
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the command line does
    warnings.simplefilter("ignore")
    os.chdir(CHECKOUT)
    sys.path.insert(0, str(CHECKOUT))  # what led to it from the notebook's own folder leads elsewhere now


def at_the_end() -> ExitStack:
    """What is entered on it ends when it is closed, or with the notebook's kernel."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack


def show(name: str, files: RunFiles) -> None:
    """Displays a picture of `PICTURES` and what it shows in words, or why the run has no such picture.

    Raises:
        UserError: there is no such picture, or a file that it is drawn from is missing.
    """
    picture = PICTURES.choose(name)
    lacking = picture.lacking(files)
    if lacking:
        say(lacking)
    else:
        show_figure(picture.draw(files), picture.text(files))


def say(text: str) -> None:
    """Displays Markdown."""
    display(Markdown(text))


def show_figure(figure: Figure, text: str) -> None:
    """Displays a figure with the text below it, which is also what a screen reader reads."""
    display(Image(png(figure), width=round(figure.get_figwidth() * DISPLAYED), alt=text))
    say(text)


def png(figure: Figure) -> bytes:
    """A figure as PNG on white, as a notebook may be on black; the same figure gives the same bytes."""
    drawn, written = io.BytesIO(), io.BytesIO()
    with styled():
        settle(figure)
        figure.savefig(drawn, format="png", dpi=DOTS, facecolor="white")
    # A palette takes a third of the space, and a notebook is committed with its pictures.
    PIL.open(drawn).convert("RGB").quantize(COLORS, dither=PIL.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()
