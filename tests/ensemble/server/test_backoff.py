"""The waits before a server is started again."""

from ensemble.server.backoff import Backoff


def test_the_wait_doubles_up_to_a_minute():
    backoff = Backoff()
    assert [backoff.failed() for _ in range(10)] == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff.unanswered == 10


def test_an_answer_ends_the_row_and_being_healthy_for_a_while_the_backoff():
    backoff = Backoff()
    for _ in range(4):
        backoff.failed()
    backoff.healthy(100.0)
    assert backoff.unanswered == 0
    backoff.healthy(109.9)
    assert backoff.failed() == 8
    backoff.healthy(200.0)
    backoff.healthy(209.9)
    backoff.healthy(210.0)
    assert backoff.failed() == 0


def test_health_before_a_failure_does_not_count_after_it():
    backoff = Backoff()
    backoff.healthy(0.0)
    backoff.failed()
    backoff.failed()
    backoff.healthy(9.0)
    backoff.healthy(11.0)
    assert backoff.failed() == 2


def test_what_was_not_even_started_is_tried_for_ever():
    backoff = Backoff()
    assert [backoff.failed(answerable=False) for _ in range(9)][-1] == 60
    assert backoff.unanswered == 0
