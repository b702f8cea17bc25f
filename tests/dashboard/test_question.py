"""What the page asks the server for whom."""

from dashboard.question import Question, request
from ensemble.triton_models.limits import LARGEST_HISTORY, LARGEST_K


def test_someone_new_is_asked_for_with_the_liked_movies_and_sees_none_that_they_dislike():
    question = Question(liked=(5, 3), seen=frozenset({3, 5, 8, 9}))
    assert request(question) == ((5, 3), 12, frozenset({8, 9}))


def test_a_user_is_asked_for_by_id_and_what_they_rated_is_left_out():
    assert request(Question(7, (5,), frozenset({5, 3}))) == ((3, 5), 10, frozenset())


def test_no_request_is_larger_than_the_server_takes():
    many = range(1, LARGEST_HISTORY + 21)
    history, k, hidden = request(Question(liked=tuple(many), seen=frozenset(many)))
    assert history == tuple(many)[-LARGEST_HISTORY:]  # the latest
    assert hidden == frozenset(range(1, 21))
    assert k == 30
    assert len(request(Question(7, (), frozenset(many)))[0]) == LARGEST_HISTORY
    assert request(Question(seen=frozenset(many)))[1] == LARGEST_K
