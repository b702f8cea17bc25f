"""Every page at both widths, light and dark: whole, accessible, and without markup from titles."""

import json

import pytest

pytest.importorskip("playwright", reason="needs the page's environment; see `make test`")
from playwright.sync_api import expect

from tests.dashboard.browser.running import MARKUP

PAGES = ("For you", "Rate", "Similar", "Compare", "Data", "Server")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_fits_the_window(visit, width, scheme):
    one = visit(width, scheme)
    for name in PAGES:
        one.go(name)
        assert one.overflow() <= 0, name
        assert one.violations() == [], name
        assert one.page.get_by_role("heading", level=1).count() == 1


def test_titles_are_text(visit):
    one = visit()
    for name in ("For you", "Rate", "Similar"):
        one.go(name)
        expect(one.page.locator(".title", has_text="window.marked").first).to_contain_text(MARKUP)
    one.page.locator(".title", has_text="window.marked").first.wait_for()
    one.page.get_by_role("button", name=f"Show movies like {MARKUP}").first.click()
    expect(one.page.get_by_role("heading", level=2, name="Like <script>")).to_contain_text(MARKUP)
    one.go("Server")
    assert one.page.evaluate("window.marked") is None


def test_pictures_words_are_text_and_their_scripts_do_not_run(visit):
    one = visit()
    one.go("Data")
    expect(one.page.get_by_role("heading", name="A picture of data <b>")).to_be_visible()
    expect(one.page.get_by_role("img", name="It shows data, <i>not</i> more.")).to_be_visible()
    one.go("Compare")
    expect(one.page.get_by_role("heading", name="A picture of comparison <b>")).to_be_visible()
    assert one.page.evaluate("window.marked") is None


def test_the_comparison_is_that_of_the_evaluation(visit, run):
    one = visit()
    one.go("Compare")
    results = json.loads((run / "evaluation.json").read_text())
    protocols = list(dict.fromkeys(result["protocol"] for result in results))
    for place, protocol in enumerate(protocols):
        one.page.get_by_role("tab").nth(place).click()
        table = one.page.get_by_role("group", name=f"Results of {protocol}")
        expect(table).to_be_visible()
        rows = table.locator("tbody tr")
        expected = [result for result in results if result["protocol"] == protocol]
        assert rows.count() == len(expected)
        for number, result in enumerate(expected):
            text = rows.nth(number).inner_text()
            for metric, value in result["metrics"].items():
                if value is not None:
                    assert f"{value:.3f}" in text, (protocol, result["model"], metric)
            for low, high in filter(None, result["ci95"].values()):
                assert f"{low:.3f} to {high:.3f}" in text


def test_without_evaluation_and_report_the_page_says_how_to_make_them(visit, run):
    hidden = {path: path.with_name(f"{path.name}.hidden") for path in (run / "evaluation.json", run / "report")}
    for path, aside in hidden.items():
        path.rename(aside)
    try:
        one = visit()
        one.go("Compare")
        expect(one.page.get_by_text("python -m marquee evaluate")).to_be_visible()
        expect(one.page.get_by_text("python -m marquee report")).to_be_visible()
        one.go("Data")
        expect(one.page.get_by_text("python -m marquee report")).to_be_visible()
    finally:
        for path, aside in hidden.items():
            aside.rename(path)
