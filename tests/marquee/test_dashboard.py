"""The command `dashboard`: what it refuses, each in one line; the page itself is in tests/dashboard/browser."""

import json
import socket

import pytest

from dashboard.settings import Settings
from marquee import dashboard as command
from marquee.app import main


def refused(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["dashboard", *arguments])
    output = capsys.readouterr()
    assert (ended.value.code, output.out) == (2, "")
    assert output.err.count("\n") == 1
    return output.err


@pytest.fixture
def options(prepared) -> list[str]:
    return ["--dataset", prepared.root.name, "--runs", str(prepared.root.parent)]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A folder that is taken for the page's environment."""
    (tmp_path / ".ready").touch()
    monkeypatch.setattr(command, "ENVIRONMENT", tmp_path)
    return tmp_path


def test_a_run_without_tables_is_refused(capsys, tmp_path):
    assert "run: python -m marquee fetch" in refused(["--runs", str(tmp_path)], capsys)


def test_without_its_packages_the_page_says_how_to_install_them(capsys, tmp_path, monkeypatch, options):
    monkeypatch.setattr(command, "ENVIRONMENT", tmp_path)
    assert refused(options, capsys).endswith("; run: make dashboard-venv\n")


def test_a_port_in_use_is_refused(capsys, options, environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused([*options, "--port", str(taken.getsockname()[1])], capsys)
    assert "cannot be used (address already in use)" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--server", "nowhere"], "give the host:port"),
        (["--secret-file", "/nowhere"], "does not hold a secret"),
        (["--host", "203.0.113.9"], "choose another --host"),
        (["--port", "0"], "--port"),
    ],
)
def test_wrong_options_are_refused(more, said, capsys, options, environment):
    assert said in refused([*options, *more], capsys)


def test_the_page_is_told_where_everything_is_and_sends_no_statistics(
    capsys, options, environment, monkeypatch, prepared, tmp_path
):
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("abc\n")
    started = {}
    monkeypatch.setattr(
        command.os, "execve", lambda *given: started.update(zip(("program", "words", "variables"), given))
    )
    with pytest.raises(SystemExit) as ended:
        main(["dashboard", *options, "--port", "18999", "--secret-file", "secret", "--database", "mine.sqlite3"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[0] == "The page: http://127.0.0.1:18999 (Ctrl-C stops it)"
    words = started["words"]
    assert {"--browser.gatherUsageStats=false", "--server.address=127.0.0.1", "--server.headless=true"} <= set(words)
    assert "--server.fileWatcherType=none" in words
    told = Settings(**json.loads(started["variables"]["MARQUEE_DASHBOARD"]))
    assert told.tables == str(prepared.tables)
    assert (told.people, told.secret) == (str(tmp_path / "mine.sqlite3"), "abc")
    assert told.commands["serve"] == prepared.command("serve")
    ranking = told.metrics["leave-one-out"]
    assert list(ranking)[:3] == ["full_hr@10", "full_ndcg@10", "full_mrr@10"]
    assert ranking["full_hr@10"] == "HR@10, all movies"
    assert ranking["known_full_hr@10"] == "HR@10, all movies, known people"
    assert (ranking["hr@10"], ranking["auc"]) == ("HR@10, sampled", "AUC, sampled")
    assert told.metrics["random-split"]["auc"] == "AUC"
    assert "log_loss" in told.lower_is_better
    assert told.questions["leave-one-out"]
    assert "abc" not in started["variables"]["MARQUEE_DASHBOARD"]
