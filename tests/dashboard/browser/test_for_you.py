"""*For you*: both networks' answers as Triton gives them, changed at once by thumbs, with the keyboard alone too."""

import pytest

pytest.importorskip("playwright", reason="needs the page's environment; see `make test`")
from playwright.sync_api import expect

from dashboard.catalogue import Catalogue
from dashboard.store import Store
from ensemble.client import Client
from tests.dashboard.browser.expected import DLRM, NCF, best


@pytest.fixture(scope="module")
def movies(run) -> Catalogue:
    return Catalogue(run / "tables")


@pytest.fixture(scope="module")
def client(served):
    with Client(served.url) as one:
        yield one


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
    liked = movies.search()[1]
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

    one.settle()  # the lists are kept once they are drawn
    key = one.page.url.partition("person=")[2]
    kept = Store(page_of_run.people, run.name)
    assert {thumb.movie_id: thumb.up for thumb in kept.thumbs(key)} == {liked: True, second: True, third: False}
    assert any(shown.key == key and shown.model == "dlrm" for shown in kept.shown())


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


def test_each_reason_names_the_nearest_liked_movies_and_the_genre_that_most_of_them_have(visit, client, movies):
    one = visit()
    user_id = int(movies.users[7])
    as_user(one, user_id)
    stars = movies.stars_of(user_id)
    likes = [movie_id for movie_id, given in stars.items() if given > 3]
    for model, name in (("dlrm", DLRM), ("ncf", NCF)):
        recommended = client.recommend(user_id, 10, model=model).movie_id.tolist()
        rows = one.movies(name).get_by_role("listitem")
        expect(rows.locator(".title")).to_have_text([movies.title(movie_id) for movie_id in recommended])
        for row, movie_id in zip(rows.all(), recommended):
            similar = client.similar(movie_id, 1000)
            cosines = {one: score for one, score in zip(similar.movie_id.tolist(), similar.score) if one in likes}
            nearest = [one for one in sorted(cosines, key=cosines.get)[::-1][:2] if cosines[one] >= 0.1]
            have = {genre: sum(genre in movies.genres_of(one) for one in likes) for genre in movies.genres_of(movie_id)}
            shared = {genre: number for genre, number in have.items() if number >= max(1, 0.2 * len(likes))}
            expected = []
            if nearest:
                expected.append(f"Near {' and '.join(movies.title(one) for one in nearest)}.")
            if shared:
                most = max(shared, key=shared.get)
                expected.append(f"{most}, like {shared[most]} of {len(likes)} liked movies.")
            assert row.locator(".why").all_inner_texts() == ([" ".join(expected)] if expected else [])
            assert set(row.locator(".genre.shared").all_inner_texts()) == set(shared)


def test_an_unknown_user_is_told_so(visit):
    one = visit()
    one.page.get_by_text("A MovieLens user").click()
    field = one.page.get_by_label("User id")
    field.fill("999999999")
    field.press("Enter")
    expect(one.page.get_by_text("has no ratings by user 999999999")).to_be_visible()
    lists = one.page.locator(".m-list").count()
    expect(one.page.get_by_text("Nothing is known yet: the most rated movies")).to_have_count(lists)


def test_the_keyboard_alone_finds_a_movie_and_thumbs_one(visit, client, movies, width):
    one = visit(width)
    liked = movies.search()[1]
    one.press_to("Find movies that you like")
    one.page.keyboard.type(movies.title(liked))
    one.page.keyboard.press("Enter")
    expect(one.page.get_by_role("button", name=f"Add {movies.title(liked)}", exact=True)).to_be_visible()
    one.press_to(f"Add {movies.title(liked)}")
    one.page.keyboard.press("Enter")
    titles = best(client, movies, "dlrm", None, [liked])
    expect(one.movies(DLRM).locator(".title")).to_have_text(titles)
    one.settle()
    one.press_to(f"Like {titles[0]}", DLRM)
    one.page.keyboard.press("Enter")
    first = client.recommend(None, 10, history=[liked], model="dlrm").movie_id.tolist()[0]
    titles = best(client, movies, "dlrm", None, [liked, first])
    expect(one.movies(DLRM).locator(".title")).to_have_text(titles)
    assert (one.focused(), one.focused_list()) == (f"Like {titles[0]}", DLRM)  # the focus stays in its place
