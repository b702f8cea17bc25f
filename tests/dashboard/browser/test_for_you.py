"""*For you*: both networks' answers as Triton gives them, changed at once by thumbs, with the keyboard alone too."""

import pytest

pytest.importorskip("playwright", reason="needs the page's environment; see `make test`")
from pathlib import Path

from playwright.sync_api import expect

from dashboard.catalogue import Catalogue
from dashboard.store import Store
from ensemble.client import Client

DLRM, NCF = "DLRM: recommended movies", "NCF: recommended movies"


@pytest.fixture(scope="module")
def movies(run) -> Catalogue:
    return Catalogue(run / "tables")


@pytest.fixture(scope="module")
def client(served):
    with Client(served.url) as one:
        yield one


def best(client, movies, model: str, user_id: int | None, history=(), hidden=()) -> list[str]:
    """The titles that the page must show."""
    answer = client.recommend(user_id, 10 + len(hidden), history=list(history), model=model)
    return [movies.title(one) for one in answer.movie_id.tolist() if one not in hidden][:10]


def as_user(one, user_id: int) -> None:
    one.page.get_by_text("A MovieLens user").click()
    field = one.page.get_by_label("User id")
    field.fill(str(user_id))
    field.press("Enter")
    expect(one.page.get_by_text(f"User {user_id} gave")).to_be_visible()
    one.settle()


def test_a_user_s_lists_are_triton_s(visit, client, movies):
    one = visit()
    user_id = int(movies.users[3])
    as_user(one, user_id)
    for model, name in (("dlrm", DLRM), ("ncf", NCF)):
        expect(one.movies(name).locator(".title")).to_have_text(best(client, movies, model, user_id))
    expect(one.movies(DLRM).locator(".why").first).to_be_visible()


def test_movies_found_by_title_make_the_lists_and_thumbs_change_them(visit, client, movies, page_of_run, run):
    one = visit()
    popular = movies.search()
    liked, other = popular[1], popular[2]
    field = one.page.get_by_label("Find movies that you like")
    field.fill(movies.title(liked))
    field.press("Enter")
    one.page.get_by_role("button", name=f"Add {movies.title(liked)}", exact=True).click()
    expect(one.movies(DLRM).locator(".title")).to_have_text(best(client, movies, "dlrm", None, [liked]))
    expect(one.movies(NCF).locator(".title")).to_have_text(best(client, movies, "ncf", None, [liked]))

    second = client.recommend(None, 10, history=[liked], model="ncf").movie_id.tolist()[0]
    one.movies(NCF).get_by_role("button", name=f"Like {movies.title(second)}", exact=True).click()
    expect(one.movies(NCF).locator(".title")).to_have_text(best(client, movies, "ncf", None, [liked, second]))
    expect(one.movies(DLRM).locator(".title")).to_have_text(best(client, movies, "dlrm", None, [liked, second]))

    third = client.recommend(None, 10, history=[liked, second], model="dlrm").movie_id.tolist()[0]
    one.movies(DLRM).get_by_role("button", name=f"Not for me: {movies.title(third)}", exact=True).click()
    titles = best(client, movies, "dlrm", None, [liked, second], [third])
    expect(one.movies(DLRM).locator(".title")).to_have_text(titles)

    key = one.page.url.partition("person=")[2]
    kept = Store(page_of_run.people, run.name)
    assert {thumb.movie_id: thumb.up for thumb in kept.thumbs(key)} == {liked: True, second: True, third: False}
    assert any(shown.key == key and shown.model == "dlrm" for shown in kept.shown())
    assert other not in (liked, second)


def test_thumbs_for_a_user_ask_for_someone_new_with_the_user_s_movies(visit, client, movies, run):
    one = visit()
    user_id = int(movies.users[5])
    as_user(one, user_id)
    first = client.recommend(user_id, 10, model="dlrm").movie_id.tolist()[0]
    one.movies(DLRM).get_by_role("button", name=f"Like {movies.title(first)}", exact=True).click()
    stars = movies.stars_of(user_id)
    history = [movie_id for movie_id, given in stars.items() if given > 3] + [first]
    hidden = set(stars) - set(history)
    expect(one.movies(DLRM).locator(".title")).to_have_text(best(client, movies, "dlrm", None, history, hidden))
    one.page.get_by_role("button", name="Take the thumbs back").click()
    expect(one.movies(DLRM).locator(".title")).to_have_text(best(client, movies, "dlrm", user_id))


def test_an_unknown_user_is_told_so(visit):
    one = visit()
    one.page.get_by_text("A MovieLens user").click()
    field = one.page.get_by_label("User id")
    field.fill("999999999")
    field.press("Enter")
    expect(one.page.get_by_text("has no ratings of user 999999999")).to_be_visible()
    expect(one.page.get_by_text("Nothing is known yet")).to_be_visible()


def press_to(one, name: str) -> None:
    """Tab until what has the focus is called so."""
    for _ in range(200):
        one.page.keyboard.press("Tab")
        if focused(one).startswith(name):
            return
    raise AssertionError(f"{name} is not reached by the keyboard")


def focused(one) -> str:
    return one.page.evaluate(
        "(() => { let at = document.activeElement;"
        " while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;"
        " return at?.getAttribute('aria-label') || at?.innerText || '' })()"
    )


def test_the_keyboard_alone_finds_a_movie_and_thumbs_one(visit, client, movies, width):
    one = visit(width)
    liked = movies.search()[1]
    press_to(one, "Find movies that you like")
    one.page.keyboard.type(movies.title(liked))
    one.page.keyboard.press("Enter")
    expect(one.page.get_by_role("button", name=f"Add {movies.title(liked)}", exact=True)).to_be_visible()
    press_to(one, f"Add {movies.title(liked)}")
    one.page.keyboard.press("Enter")
    titles = best(client, movies, "dlrm", None, [liked])
    expect(one.movies(DLRM).locator(".title")).to_have_text(titles)
    one.settle()
    press_to(one, f"Like {titles[0]}")
    one.page.keyboard.press("Enter")
    first = client.recommend(None, 10, history=[liked], model="dlrm").movie_id.tolist()[0]
    titles = best(client, movies, "dlrm", None, [liked, first])
    expect(one.movies(DLRM).locator(".title")).to_have_text(titles)
    assert focused(one) == f"Like {titles[0]}"  # the focus stays in its place


def test_the_folder_of_the_page_is_not_the_user_s(page_of_run):
    """Nothing is written beside the page's sources."""
    from tests.dashboard.browser.running import ROOT

    assert not list(Path(ROOT, "dashboard").glob("*.sqlite3*"))
