"""Files that cannot be read or written: one sentence that says which and what to do; the rest of the page goes on."""

import shutil
import sqlite3
from contextlib import closing

import pytest

pytest.importorskip("playwright", reason="needs the page's environment; see `make test`")
from playwright.sync_api import expect

from tests.dashboard.browser.expected import DLRM
from tests.dashboard.browser.running import Page
from tests.dashboard.browser.visit import Visit

NOT_OPENED = "cannot be opened: no such file or directory; give another file with --database"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the file of the people is to be; it is not there."""
    return tmp_path_factory.mktemp("people") / "folder"


@pytest.fixture(scope="module")
def without_file(run, served, folder):
    """A page whose file of people cannot be made at first."""
    page = Page(run, served.url, folder / "people.sqlite3")
    yield page
    page.process.stop()


@pytest.fixture
def window(chromium, without_file):
    one = Visit(chromium, without_file.url, 1280, "light", "")
    yield one
    one.close()
    assert not one.errors


def rate(one, place: int) -> None:
    one.movies("Movies to rate").get_by_role("listitem").nth(place).locator("label").nth(3).click()


def test_without_its_file_the_page_recommends_and_says_what_is_not_kept(window, folder):
    one = window
    expect(one.movies(DLRM).locator(".title")).to_have_count(10)
    expect(one.page.get_by_text(f"These lists are not kept. {folder}/people.sqlite3 {NOT_OPENED}")).to_be_visible()
    one.go("Rate")
    one.page.get_by_role("button", name="New person").click()
    expect(one.page.get_by_text(NOT_OPENED)).to_be_visible()
    one.go("Compare")
    one.go("Rate")
    rate(one, 0)
    expect(one.page.get_by_text(NOT_OPENED)).to_be_visible()
    expect(one.movies("Movies to rate").locator("input:checked")).to_have_count(0)  # as it was not kept

    folder.mkdir()
    rate(one, 0)
    expect(one.page.get_by_text("You have rated 1 movie.")).to_be_visible()
    shutil.rmtree(folder)
    rate(one, 1)
    expect(one.page.get_by_text(NOT_OPENED).first).to_be_visible()
    one.go("Compare")
    folder.mkdir()
    one.go("Rate")
    expect(one.page.get_by_role("button", name="New person")).to_be_visible()
    rate(one, 1)
    expect(one.page.get_by_text("You have rated 1 movie.")).to_be_visible()


def test_a_file_that_another_process_has_locked_delays_no_list(window, folder):
    one = window
    folder.mkdir(exist_ok=True)
    one.go("Rate")
    rate(one, 0)
    expect(one.page.get_by_text("You have rated 1 movie.")).to_be_visible()
    with closing(sqlite3.connect(folder / "people.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        one.page.get_by_role("link", name="For you", exact=True).click()
        expect(one.movies(DLRM).locator(".title")).to_have_count(10)
        expect(one.page.get_by_text("was locked by another process for more than 10 s; try again")).to_be_visible()
        one.go("Rate")
        rate(one, 1)
        expect(one.page.get_by_text("was locked by another process for more than 10 s; try again")).to_be_visible()
        expect(one.movies("Movies to rate").locator("input:checked")).to_have_count(1)
        other.execute("ROLLBACK")
    rate(one, 1)
    expect(one.page.get_by_text("You have rated 2 movies.")).to_be_visible()


@pytest.mark.parametrize(
    ("file", "name", "command"),
    [
        ("evaluation.json", "Compare", "evaluate"),
        ("report/pictures.json", "Compare", "report"),
        ("report/pictures.json", "Data", "report"),
        ("repository/manifest.json", "For you", "export"),
        ("tables/movies.parquet", "Data", "fetch"),
        ("tables/ratings.parquet", "For you", "fetch"),
    ],
)
def test_a_file_that_is_cut_off_is_named_with_the_command_that_makes_it(visit, run, file, name, command):
    one = visit()
    path = run / file
    aside = path.with_name(f"{path.name}.whole")
    path.rename(aside)
    path.write_bytes(aside.read_bytes()[:20])
    try:
        one.go("Server" if name == "For you" else name)
        one.go(name)
        said = one.page.get_by_text(f"run: python -m marquee {command}")
        expect(said).to_contain_text(str(run))
        expect(said).to_contain_text("cannot be read")
    finally:
        aside.rename(path)
    one.page.reload()
    one.go(name)
    expect(said).to_have_count(0)
