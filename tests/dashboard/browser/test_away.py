"""Without a server each page says so with the command that starts it, and goes on by itself. One port, one state: the
tests that stop the server are here."""

import pytest

pytest.importorskip("playwright", reason="needs the page's environment; see `make test`")
from playwright.sync_api import expect

WIDTHS = (1280, 390)
AWAY = "does not answer. Start it in a terminal with:"


def test_the_pages_say_how_to_start_the_server_and_recover_by_themselves(visit, served, run):
    windows = {(name, width): visit(width) for name in ("For you", "Similar", "Server") for width in WIDTHS}
    served.stop()
    try:
        for (name, _), one in windows.items():
            one.page.reload()
            expect(one.heading).to_be_visible()
            one.go(name)
            expect(one.page.get_by_text(AWAY)).to_be_visible()
            command = one.page.get_by_test_id("stCode")
            expect(command).to_contain_text("python -m marquee serve")
            expect(command).to_contain_text(f"--runs {run.parent}")
            assert one.violations() == []
            assert one.overflow() <= 0
    finally:
        served.start()
    for one in windows.values():  # without a click
        expect(one.page.get_by_text(AWAY)).to_have_count(0)
    for width in WIDTHS:
        expect(windows["For you", width].movies("DLRM: recommended movies").locator(".title")).to_have_count(10)
        expect(windows["Similar", width].movies("Similar movies").locator(".title")).to_have_count(12)
        expect(windows["Server", width].page.get_by_text("Every model answers")).to_be_visible()
