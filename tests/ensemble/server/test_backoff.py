"""The waits before a server is started again."""

from ensemble.server.backoff import Backoff


def test_the_wait_doubles_up_to_a_minute():
    backoff = Backoff()
    assert [backoff.failed() for _ in range(10)] == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff.unanswered == 10


def test_an_answer_ends_the_row_and_a_healthy_minute_the_backoff():
    backoff = Backoff()
    for _ in range(4):
        backoff.failed()
    backoff.healthy(100.0)
    assert backoff.unanswered == 0
    backoff.healthy(159.9)
    assert backoff.failed() == 8
    backoff.healthy(200.0)
    backoff.healthy(259.9)
    backoff.healthy(260.0)
    assert backoff.failed() == 0


def test_health_before_a_failure_does_not_count_after_it():
    backoff = Backoff()
    backoff.healthy(0.0)
    backoff.failed()
    backoff.failed()
    backoff.healthy(59.0)
    backoff.healthy(61.0)
    assert backoff.failed() == 2
