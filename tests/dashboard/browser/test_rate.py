"""*Rate*: a person's stars are kept under a key that cannot be guessed."""

import pytest

pytest.importorskip("playwright", reason="needs the page's environment; see `make test`")
from playwright.sync_api import expect

from dashboard.catalogue import Catalogue
from dashboard.store import Store


@pytest.fixture(scope="module")
def movies(run) -> Catalogue:
    return Catalogue(run / "tables")


def row(one, title: str):
    return one.movies("Movies to rate").get_by_role("listitem").filter(has_text=title)


def key_of(one) -> str:
    return one.page.url.partition("person=")[2]


def test_stars_are_kept_for_the_person_and_removed_again(visit, movies, page_of_run, run):
    one = visit()
    one.go("Rate")
    movie = movies.search()[2]
    row(one, movies.title(movie)).locator("label").nth(3).click()
    expect(one.page.get_by_text("You have rated 1 movie")).to_be_visible()
    key, kept = key_of(one), Store(page_of_run.people, run.name)
    assert len(key) >= 20
    assert [(rating.movie_id, rating.stars) for rating in kept.ratings(key)] == [(movie, 4.0)]

    again = visit(path=f"?person={key}")  # another browser with the same address
    again.go("Rate")
    expect(row(again, movies.title(movie)).get_by_label("4 stars")).to_be_checked()
    again.page.get_by_role("button", name=f"Remove the rating of {movies.title(movie)}", exact=True).click()
    expect(again.page.get_by_text("You have rated 0 movies")).to_be_visible()
    assert kept.ratings(key) == []


def test_filters_leave_what_they_say(visit, movies):
    one = visit()
    one.go("Rate")
    one.page.get_by_label("Title").fill("the 1")
    one.page.get_by_label("Title").press("Enter")
    found = movies.search("the 1")
    expect(one.page.get_by_text(f"{len(found)} movies found")).to_be_visible()
    titles = one.movies("Movies to rate").locator(".title")
    expect(titles).to_have_text([movies.title(movie) for movie in found[:12]])


def test_the_keyboard_alone_becomes_a_person_and_rates(visit, movies, page_of_run, run, width):
    one = visit(width)
    one.press_to("Rate")
    one.page.keyboard.press("Enter")
    expect(one.heading).to_have_text("Rate")
    one.settle()
    one.press_to("New person")
    one.page.keyboard.press("Enter")
    expect(one.page.get_by_text("You have rated 0 movies")).to_be_visible()
    one.settle()
    one.press_to("1 star")
    one.page.keyboard.press("ArrowRight")
    one.page.keyboard.press("ArrowRight")
    expect(one.page.get_by_text("You have rated 1 movie")).to_be_visible()
    first = movies.search()[0]
    expect(one.movies("Movies to rate").get_by_role("listitem").first.get_by_label("3 stars")).to_be_checked()
    one.settle()
    assert one.focused() == "3 stars"
    kept = Store(page_of_run.people, run.name)
    assert [(rating.movie_id, rating.stars) for rating in kept.ratings(key_of(one))] == [(first, 3.0)]
