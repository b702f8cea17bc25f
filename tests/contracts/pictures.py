"""What holds for every picture: a class whose tests a concrete class inherits.

class TestPicturesOfTheData(PictureContract):
    names = names_in(DATA)

    @pytest.fixture
    def files(self, tmp_path) -> RunFiles: ...  # of a run that has what it needs
"""

import re
from io import BytesIO

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from core.run_folder import Run
from report.files import RunFiles
from report.picture import COMPARISON, DATA, LEARNING, PICTURES, Picture
from report.style import styled
from tests.report.layout import cut_off, texts, touching

PHONE = 358  # pixels between the margins


def names_in(section: str) -> tuple[str, ...]:
    """All pictures of a section of the report, in their order: also those that a new file adds."""
    return tuple(name for name, picture in PICTURES.items() if picture.section == section)


def svg(figure: Figure) -> bytes:
    """A figure's file."""
    file = BytesIO()
    with styled():
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def smallest_text(figure: Figure) -> float:
    """The size of the smallest text in pixels, where the figure is shrunk to a phone of 390 pixels."""
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return min(text.get_fontsize() for text in texts) * PHONE / max(PHONE, 72 * figure.get_figwidth())


class PictureContract:
    """Override `names` and `files`.

    Attributes:
        names: of pictures in `PICTURES`, each of which is tested.
    """

    names: tuple[str, ...] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.names)

    @pytest.fixture
    def files(self, tmp_path) -> RunFiles:
        raise NotImplementedError

    @pytest.fixture
    def picture(self, name) -> Picture:
        return PICTURES[name]

    @pytest.fixture(scope="class")
    def drawn(self) -> dict[str, Figure]:
        return {}

    @pytest.fixture
    def figure(self, drawn, picture, name, files) -> Figure:
        """Drawn once for all tests that only look at it."""
        if name not in drawn:
            drawn[name] = picture.draw(files)
        return drawn[name]

    def test_it_has_a_name_a_section_and_a_title(self, picture, name):
        assert picture.name == name
        assert picture.name == "".join(one for one in picture.name if one.isalnum() or one in "-") != ""
        assert picture.section in (DATA, LEARNING, COMPARISON)
        assert picture.title.strip() == picture.title != ""

    def test_this_run_has_what_it_needs(self, picture, files):
        assert picture.lacking(files) == ""

    def test_its_text_is_sentences(self, picture, files):
        text = picture.text(files)
        assert text.strip() == text
        assert text.endswith(".")
        assert "\n" not in text
        assert not re.search(r"\b(nan|inf|None)\b|[{}]", text)

    def test_it_draws_without_pyplot_and_the_same_file_twice(self, figure, picture, files):
        before = plt.get_fignums()
        first, second = svg(figure), svg(picture.draw(files))
        assert plt.get_fignums() == before
        assert first == second
        assert b"<text" in first or b"<path" in first

    def test_no_words_are_cut_off_or_touch(self, figure, name):
        if not name.endswith("cloud"):  # whose letters fill the gaps between others
            found = texts(figure)
            assert cut_off(found, figure) == []
            assert touching(found) == []

    def test_its_background_is_transparent(self, figure):
        assert figure.get_facecolor()[3] == 0
        assert all(axis.get_facecolor()[3] == 0 for axis in figure.axes)

    def test_a_run_without_files_says_what_is_missing(self, picture, tmp_path):
        reason = picture.lacking(RunFiles(Run(tmp_path / "nothing" / "ml-100k")))
        assert reason.strip() == reason != ""
