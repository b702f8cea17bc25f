"""What people do by mistake: clicks at once, odd words and ids, wrong keys, Back, reload, two windows."""

import pytest

pytest.importorskip("playwright", reason="needs the page's environment; see `make test`")
from playwright.sync_api import expect

from dashboard.catalogue import Catalogue
from dashboard.store import Store
from tests.dashboard.browser.running import wait_until

REFUSED = "No person has this key. Check it, or start as a new person"
RATE_ALL = "(list) => [...list.children].forEach((row, place) => row.querySelectorAll('input')[place % 5].click())"


@pytest.fixture(scope="module")
def movies(run) -> Catalogue:
    return Catalogue(run / "tables")


@pytest.fixture
def kept(page_of_run, run) -> Store:
    return Store(page_of_run.people, run.name)


def key_of(one) -> str:
    return one.page.url.partition("person=")[2]


def new_person(one) -> str:
    one.go("Rate")
    one.page.get_by_role("button", name="New person").click()
    expect(one.page.get_by_text("You have rated 0 movies")).to_be_visible()
    return key_of(one)


def stars(kept: Store, key: str) -> dict[int, float]:
    return {one.movie_id: one.stars for one in kept.ratings(key)}


def test_of_many_clicks_at_once_none_is_lost(visit, movies, kept):
    one = visit()
    key = new_person(one)
    one.movies("Movies to rate").evaluate(RATE_ALL)
    expect(one.page.get_by_text("You have rated 12 movies")).to_be_visible()
    shown = movies.search()[:12]
    assert stars(kept, key) == {movie: place % 5 + 1.0 for place, movie in enumerate(shown)}

    row = one.movies("Movies to rate").get_by_role("listitem").first
    name = f"Remove the rating of {movies.title(shown[0])}"
    for value in (4, 2, 5, 3):
        row.locator("label").nth(value - 1).click()
        row.get_by_role("button", name=name, exact=True).click()
    row.locator("label").nth(1).click()
    expect(one.page.get_by_text("You have rated 12 movies")).to_be_visible()
    expect(row.get_by_label("2 stars")).to_be_checked()
    wait_until(lambda: stars(kept, key).get(shown[0]) == 2.0, "the last click")
    one.page.reload()
    expect(row.get_by_label("2 stars")).to_be_checked()


def test_a_click_counts_where_the_list_changes_while_the_button_is_down(visit, movies, kept):
    one = visit()
    key = new_person(one)
    first, second = movies.search()[:2]
    rows = one.movies("Movies to rate").get_by_role("listitem")
    rows.nth(2).get_by_label("1 star").focus()  # which a press elsewhere takes away
    rows.first.locator("label").nth(1).hover()
    one.page.mouse.down()
    kept.rate(key, first, 5.0)  # from another window
    rows.nth(1).get_by_label("3 stars").evaluate("(star) => star.click()")
    expect(one.page.get_by_text("You have rated 2 movies")).to_be_visible()
    one.settle()
    one.page.mouse.up()
    wait_until(lambda: stars(kept, key) == {first: 2.0, second: 3.0}, "the click")
    expect(rows.first.get_by_label("2 stars")).to_be_checked()
    expect(rows.nth(1).get_by_label("3 stars")).to_be_checked()


def test_a_click_whose_message_was_lost_is_sent_again(visit, movies, kept):
    one = visit()
    lost: list[bytes] = []

    def route(socket) -> None:
        server = socket.connect_to_server()

        def pass_on(message) -> None:
            if b'"rate"' in message and not lost:
                lost.append(message)
            else:
                server.send(message)

        socket.on_message(pass_on)

    one.context.route_web_socket("**/*", route)
    one.page.reload()
    key = new_person(one)
    one.movies("Movies to rate").get_by_label("4 stars").first.evaluate("(star) => star.click()")
    expect(one.page.get_by_text("You have rated 1 movie.")).to_be_visible()
    assert stars(kept, key) == {movies.search()[0]: 4.0}
    assert len(lost) == 1


def test_the_second_click_of_a_double_click_is_not_on_the_next_movie(visit, kept):
    one = visit()
    liked = one.movies("Movies that you like").get_by_role("button")
    button = one.movies("DLRM: recommended movies").get_by_role("button", name="Like").first
    place = button.bounding_box()
    button.click()
    expect(liked).to_have_count(1)
    one.settle()
    one.page.mouse.move(place["x"] + 5, place["y"] + 5)
    moved = one.movies("DLRM: recommended movies").get_by_role("button", name="Like").first.bounding_box()
    one.page.mouse.move(moved["x"] + 5, moved["y"] + 5)
    one.page.mouse.down(click_count=2)
    one.page.mouse.up(click_count=2)
    one.go("Rate")
    assert len(kept.thumbs(key_of(one))) == 1


def test_a_user_id_that_is_typed_or_stepped_fast_is_the_one_asked_for(visit, movies):
    one = visit()
    one.page.get_by_text("A MovieLens user").click()
    field = one.page.get_by_label("User id")
    first = int(movies.users.min())
    expect(field).to_have_value(str(first))
    up = one.page.get_by_test_id("stNumberInputStepUp")
    for _ in range(4):
        up.click()
    expect(one.page.get_by_text(f"User {first + 4} gave")).to_be_visible()
    expect(field).to_have_value(str(first + 4))
    field.fill(str(first - 1))
    field.press("Enter")
    expect(one.page.get_by_text("Number is outside the allowed range")).to_be_visible()
    field.fill("")
    one.page.keyboard.type("none")
    one.page.keyboard.press("Enter")
    expect(one.page.get_by_text(f"User {first} gave")).to_be_visible()
    one.page.get_by_role("radio", name="A MovieLens user").click()  # once more
    expect(field).to_be_visible()
    field.fill(str(first + 4))
    field.press("Enter")
    expect(one.page.get_by_text(f"User {first + 4} gave")).to_be_visible()
    one.go("Server")
    one.go("For you")
    expect(field).to_have_value(str(first + 4))


@pytest.mark.parametrize(
    ("name", "label"), [("For you", "Find movies that you like"), ("Rate", "Title"), ("Similar", "Find a movie")]
)
def test_whatever_is_searched_for_is_words_of_a_title(visit, movies, name, label):
    one = visit()
    one.go(name)
    field = one.page.get_by_label(label)
    titles = one.movies("Movies to rate" if name == "Rate" else "Movies found").locator(".title")
    title = movies.title(movies.search()[1])
    for words in ('"none"', "100%", "'; DROP TABLE people; --", "\u6771\u4eac \U0001f600", "x" * 200):
        one.search(field, words)
        expect(one.page.get_by_text("No movie ").or_(one.page.get_by_text("No other movie "))).to_be_visible()
        expect(titles).to_have_count(0)
        one.search(field, " ".join([title] * 200)[:200])
        expect(titles.first).to_have_text(title)


@pytest.mark.parametrize(
    "key", ["guessed", "../../etc/passwd", "%00", "%ff", "%27%20OR%201=1--", "%F0%9F%98%80", "a" * 4000, "a&person=b"]
)
def test_a_key_that_no_person_has_is_refused(visit, key):
    one = visit(path=f"?person={key}")
    expect(one.page.get_by_text(REFUSED)).to_be_visible()
    assert "person=" not in one.page.url
    one.go("Rate")
    expect(one.page.get_by_role("button", name="New person")).to_be_visible()
    expect(one.page.get_by_text(REFUSED)).to_have_count(0)


def test_a_key_that_is_typed_is_taken_or_refused(visit):
    first = visit()
    key = new_person(first)
    one = visit()
    one.go("Rate")
    one.page.get_by_label("Or enter your key").fill("guessed")
    one.page.get_by_label("Or enter your key").press("Enter")
    expect(one.page.get_by_text(REFUSED)).to_be_visible()
    one.page.get_by_label("Or enter your key").fill(f" {key} ")
    one.page.get_by_label("Or enter your key").press("Enter")
    expect(one.page.get_by_text("You have rated 0 movies")).to_be_visible()
    assert key_of(one) == key


def test_back_goes_a_page_back_and_keeps_the_person(visit):
    one = visit()
    key = new_person(one)
    for name in ("Similar", "Server", "Compare"):
        one.go(name)
    for name in ("Server", "Similar", "Rate"):
        one.page.go_back()
        expect(one.heading).to_have_text(name)
        expect(one.page).to_have_url(f"{one.page.url.partition('?')[0]}?person={key}")
    expect(one.page.get_by_text("You have rated 0 movies")).to_be_visible()
    one.page.go_forward()
    expect(one.heading).to_have_text("Similar")


def test_two_windows_of_one_person_and_a_reload_in_the_middle(visit, movies, kept):
    one = visit()
    key = new_person(one)
    other = visit(path=f"rate?person={key}")
    first, second, third = movies.search()[:3]
    for window, place in ((one, 0), (other, 1), (one, 2)):
        row = window.movies("Movies to rate").get_by_role("listitem").nth(place)
        row.locator("label").nth(3).click()
        expect(row.get_by_role("button")).to_be_enabled()
    assert stars(kept, key) == {first: 4.0, second: 4.0, third: 4.0}
    other.movies("Movies to rate").get_by_role("listitem").nth(0).locator("label").nth(0).click()
    other.page.reload()  # whether that click was kept or not, the page shows what is kept
    expect(other.page.get_by_text("You have rated 3 movies")).to_be_visible()
    other.settle()
    given = round(stars(kept, key)[first])
    assert given in (1, 4)
    row = other.movies("Movies to rate").get_by_role("listitem").nth(0)
    expect(row.get_by_label(f"{given} star").first).to_be_checked()
    one.page.reload()
    expect(one.movies("Movies to rate").locator("input:checked")).to_have_count(3)


@pytest.mark.parametrize("size", [320, 641, 768, 1280])
def test_the_name_is_never_cut_off(visit, size):
    one = visit(size)
    for text in ("100%", "200%"):
        one.page.evaluate("(size) => { document.documentElement.style.fontSize = size }", text)
        cut = one.page.locator(".m-brand span").evaluate(
            """(name) => {
              const ends = name.getBoundingClientRect();
              const covered = document.elementFromPoint(ends.right - 2, (ends.top + ends.bottom) / 2);
              const right = (one) => getComputedStyle(one).overflowX === "visible" ? innerWidth
                : one.getBoundingClientRect().right;
              let most = innerWidth;
              for (let at = name.parentElement; at; at = at.parentElement) most = Math.min(most, right(at));
              return ends.right > most || covered !== name;
            }"""
        )
        assert not cut, (size, text)
