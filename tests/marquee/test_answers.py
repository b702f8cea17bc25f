"""What the command `recommend` asks a server: nothing is sent here."""

import numpy as np
import pytest

from ensemble import client
from tests.marquee.test_cli import main_here


@pytest.fixture
def asked(monkeypatch) -> list[tuple]:
    """What the client is asked, without the address."""
    questions: list[tuple] = []

    def recommend(url: str, *question: object, **_: object) -> tuple[np.ndarray, np.ndarray, bool]:
        questions.append(question)
        return np.array([10]), np.array([0.5], np.float32), True

    monkeypatch.setattr(client, "recommend", recommend)
    return questions


@pytest.mark.parametrize(
    ("options", "question"),
    [
        (("--user", "1"), (1, 10, (), "", "")),
        (("--user", "1", "--model", "ncf", "-k", "3"), (1, 3, (), "ncf", "")),
        (("--history", "10", "--history", "20", "--model", "dlrm"), (None, 10, (10, 20), "dlrm", "")),
        (("--user", "1", "--history", "20", "--strategy", "exact"), (1, 10, (20,), "", "exact")),
    ],
)
def test_recommend_asks_for_a_person_a_network_and_a_strategy(prepared, asked, options, question):
    where = ("--dataset", prepared.root.name, "--runs", str(prepared.root.parent))
    assert main_here("recommend", *where, *options) == 0
    assert asked == [question]
