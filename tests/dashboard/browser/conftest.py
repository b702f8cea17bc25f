"""The page in Debian's chromium, beside a real Triton. `make test` runs these in the page's environment."""

from pathlib import Path

import pytest

from tests.dashboard.browser.running import MAIN, Page, Served, exported_run, mark_title, write_report

WIDTHS = (1280, 390)
collect_ignore = ["visit.py"]  # no tests, and needs Playwright


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported run whose most rated movie has markup in its title, with two pictures."""
    if not MAIN.exists():
        pytest.skip(f"needs the main environment at {MAIN}; give its Python with MARQUEE_PYTHON=")
    made = exported_run(tmp_path_factory.mktemp("runs"))
    mark_title(made)
    write_report(made)
    return made


@pytest.fixture(scope="session")
def served(run: Path):
    """Its Triton. A test that stops it starts it again."""
    server = Served(run)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def page_of_run(run: Path, served: Served):
    """The page, without a browser."""
    page = Page(run, served.url)
    yield page
    page.process.stop()


@pytest.fixture
def visit(chromium, page_of_run: Page):
    """Opens the page in a session of its own: `visit(width, scheme, path)` gives a `Visit`."""
    from tests.dashboard.browser.visit import Visit

    visits: list[Visit] = []

    def opened(width: int = WIDTHS[0], scheme: str = "light", path: str = "") -> Visit:
        visits.append(Visit(chromium, page_of_run.url, width, scheme, path))
        return visits[-1]

    yield opened
    for one in visits:
        one.close()
    assert not [request for one in visits for request in one.left_loopback]
    assert not [error for one in visits for error in one.errors]


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    return request.param
