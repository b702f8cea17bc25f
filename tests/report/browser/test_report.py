"""report.html in Debian's chromium without a network. `make test` runs these in the page's environment."""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import write_movielens
from tests.dashboard.browser.running import GIVEN_RUN, MAIN, Process
from tests.names import HANG_SECONDS

pytest.importorskip("playwright.sync_api", reason="needs the page's environment; see `make test`")
pytestmark = pytest.mark.slow

MOST_BYTES = 3_000_000
LARGE_TEXT = 3.0  # the contrast that WCAG 2 asks of large words and of graphics, level AA
A4 = (680, 1009)  # pixels within the margins
# Words of pictures that reach over their picture's edge by more than a pixel; not of word clouds, where ink counts.
CUT_OFF = """() => [...document.querySelectorAll("svg:not([id$='-cloud']) text")].filter(text => {
  const own = text.getBoundingClientRect(), room = text.closest("svg").getBoundingClientRect();
  return own.width && (own.left < room.left - 1 || own.right > room.right + 1 || own.top < room.top - 1
    || own.bottom > room.bottom + 1);
}).map(text => text.closest("svg").id + ": " + text.textContent)"""
# The words of pictures whose contrast with the page is the lowest, and it.
FAINTEST = """() => {
  const light = ([r, g, b]) => [r, g, b].map(one => one / 255).map(
    one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4).reduce(
    (sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const page = numbers(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll("svg text")].map(text => {
    const style = getComputedStyle(text), opacity = Number(style.fillOpacity);
    const seen = numbers(style.fill).slice(0, 3).map((one, place) => opacity * one + (1 - opacity) * page[place]);
    const [low, high] = [light(seen), light(page)].sort((one, other) => one - other);
    return [(high + 0.05) / (low + 0.05), text.textContent];
  }).sort((one, other) => one[0] - other[0])[0];
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A report, as the command writes it, of the run that `$MARQUEE_TEST_RUN` names or of a small one."""
    if not MAIN.exists():
        pytest.skip(f"needs the main environment at {MAIN}; give its Python with MARQUEE_PYTHON=")
    folder = tmp_path_factory.mktemp("runs")
    if given := os.environ.get(GIVEN_RUN):
        name = Path(given).name
        shutil.copytree(given, folder / name, ignore=shutil.ignore_patterns("*.log*", "people*", "report"))
        commands: list[list[str]] = []
    else:
        name = "ml-latest-small"
        data = str(write_movielens(folder / "data"))
        commands = [["fetch", "--data", data], ["prepare"], ["train", "--epochs", "1"], ["evaluate"]]
    for command in [*commands, ["report"]]:
        done = Process([*command, "--dataset", name, "--runs", str(folder)], folder / f"{command[0]}.log")
        assert done.running.wait(timeout=HANG_SECONDS) == 0, done.log.read_text()
    return folder / name / "report" / "report.html"


@pytest.fixture
def opened(chromium, report):
    """Opens it without a network: `opened(width, scheme)` gives the page. What it asks for or complains of fails."""
    contexts, asked, said = [], [], []

    def show(width: int, scheme: str = "light"):
        context = chromium.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(report.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file:")] == [report.as_uri()] * len(contexts)
    assert said == []


def test_it_is_one_small_file(report):
    assert report.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_and_all_words_can_be_read(opened, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure svg").count() >= 20
    assert page.evaluate(CUT_OFF) == []
    contrast, words = page.evaluate(FAINTEST)
    assert contrast >= LARGE_TEXT, words


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 27)")])
def test_a_picture_that_is_opened_alone_has_the_ground_that_its_words_need(chromium, report, scheme, ground):
    page = chromium.new_page(color_scheme=scheme)
    page.goto((report.parent / "pictures" / "forest-leave-one-out.svg").as_uri())
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == ground
    page.close()


def test_no_table_is_wider_than_a_phone(opened):
    wide = "() => [...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    assert opened(390).evaluate(wide) == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_accessible(opened, width):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(opened(width)).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found] == []


def test_no_picture_is_cut_by_the_end_of_a_printed_page(opened):
    width, height = A4
    page = opened(width)
    page.emulate_media(media="print")
    high = "() => Math.max(...[...document.querySelectorAll('figure')].map(one => one.offsetHeight))"
    assert page.evaluate(high) <= height
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.pdf(format="A4").startswith(b"%PDF")
