"""Eight people at once, none of whom sees another's answers."""

import pytest

pytest.importorskip("playwright", reason="needs the page's environment; see `make test`")
from playwright.sync_api import expect

from dashboard.catalogue import Catalogue
from ensemble.client import Client
from tests.dashboard.browser.expected import DLRM, NCF, best

SESSIONS = 8


def test_eight_sessions_at_once_each_see_their_own(visit, served, run):
    movies = Catalogue(run / "tables")
    users = [int(user) for user in movies.users[:SESSIONS]]
    windows = [visit() for _ in users]
    for one in windows:
        one.page.get_by_text("A MovieLens user").click()
    for one in windows:
        expect(one.page.get_by_label("User id")).to_be_visible()
        one.settle()
    for one, user_id in zip(windows, users):  # all under way before the first is looked at
        one.page.get_by_label("User id").fill(str(user_id))
        one.page.get_by_label("User id").press("Enter")
    with Client(served.url) as client:
        for one, user_id in zip(windows, users):
            for model, name in (("dlrm", DLRM), ("ncf", NCF)):
                expect(one.movies(name).locator(".title")).to_have_text(best(client, movies, model, user_id))
