"""A table of another domain's shape on the command line: its own ids go in at one end, and come out at the other."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from core.artifacts import read_manifest
from core.run_folder import Run
from ensemble.client import Client
from ensemble.server.ports import free_port
from tests.conftest import write_movielens
from tests.marquee.test_cli import main_here, marquee, refusal, started, wait_until_served
from tests.names import HANG_SECONDS
from workflows.sources.table_columns import parse_columns, remembered

CUSTOMERS, PRODUCTS, GROUPS = 60, 40, 4
COLUMNS = "user=customer,item=sku"


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    """Who bought what: no rating, no time, and ids that are text. Customers mostly buy products of their group."""
    rng = np.random.default_rng(5)
    rows = []
    for customer in range(CUSTOMERS):
        chance = np.where(np.arange(PRODUCTS) % GROUPS == customer % GROUPS, 20.0, 1.0)
        bought = rng.choice(PRODUCTS, 9, replace=False, p=chance / chance.sum())
        rows += [(f"customer {customer:03d}", f"SKU/{product:02d}-é") for product in bought]
    path = tmp_path_factory.mktemp("own") / "orders.csv"
    table = pd.DataFrame(rows, columns=["customer", "sku"]).sample(frac=1, random_state=1)
    table.assign(amount=1).to_csv(path, index=False)
    return path


BAD = {
    "no columns": (("fetch", "--dataset", "{orders}"), "for example: --columns user=customer,item=sku"),
    "no columns of run": (("run", "--dataset", "{orders}"), "its columns are customer, sku, amount"),
    "columns of a dataset": (("fetch", "--dataset", "ml-1m", "--columns", COLUMNS), "--columns is for a table"),
    "no such table": (("fetch", "--dataset", "none.csv", "--columns", COLUMNS), "none.csv does not exist"),
    "files of a dataset": (
        ("fetch", "--dataset", "{orders}", "--columns", COLUMNS, "--data", "x"), "--data is for a dataset by its name",
    ),
    "a dataset's name": (("fetch", "--dataset", "ml-1m.csv"), "give the file another name"),
    "a name alone": (("fetch", "--dataset", "orders"), "unknown dataset 'orders'"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_missing_is_said_in_one_line(tmp_path, orders, what):
    arguments, words = BAD[what]
    given = [argument.format(orders=orders) for argument in arguments]
    assert words in refusal(*given, "--runs", tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_a_table_at_an_address_is_remembered_by_it(tmp_path, orders, monkeypatch):
    monkeypatch.setenv("MARQUEE_DATA", str(tmp_path / "home"))
    runs = ("--runs", str(tmp_path / "runs"))
    assert main_here("fetch", "--dataset", f"file://{orders}", "--columns", COLUMNS, *runs) == 0
    tables = Run(tmp_path / "runs" / "orders").tables
    assert remembered(tables) == (f"file://{orders}", parse_columns(COLUMNS))
    assert main_here("fetch", "--dataset", "orders", *runs) == 0
    assert len(list((tmp_path / "home" / "remote").iterdir())) == 1
    assert "does not exist" in refusal("fetch", "--dataset", f"file://{tmp_path}/none.csv", "--columns", COLUMNS, *runs)


def test_the_files_of_a_dataset_may_be_at_an_address(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_DATA", str(tmp_path / "home"))
    data = write_movielens(tmp_path / "raw", 25, 220, seed=3)
    options = ("fetch", "--dataset", "ml-latest-small", "--data", f"file://{data}", "--runs", str(tmp_path / "runs"))
    assert main_here(*options) == 0
    assert pq.read_table(Run(tmp_path / "runs" / "ml-latest-small").tables / "users.parquet").num_rows == 25


@pytest.mark.slow
def test_a_table_of_another_domain_from_its_file_to_answers(tmp_path, orders):
    at = ("--runs", tmp_path)
    done = marquee(
        "run", "--dataset", orders, "--columns", COLUMNS, "--epochs", 2, "--user", "customer 007", "--threads", 1, *at
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "there are no ratings" in done.stdout
    assert "random-split" not in done.stdout  # there is nothing to tell apart
    assert "what user customer 007 liked" in done.stdout
    run, own = Run(tmp_path / "orders"), pd.read_csv(orders)
    bought = own[own.customer == "customer 007"].sku.tolist()
    port, log = free_port(), tmp_path / "serve.log"
    url = ("--url", f"127.0.0.1:{port}")
    with started("serve", "--dataset", "orders", *at, "--port", port, log=log) as server:
        wait_until_served(server, log)
        assert "recommend --user 'customer " in log.read_text()
        assert marquee("health", *url).returncode == 0
        with Client(f"127.0.0.1:{port}", timeout=HANG_SECONDS) as client:
            answer = client.recommend("customer 007", k=PRODUCTS)
            assert answer.known
            assert set(answer.movie_id) == set(own.sku) - set(bought)
            scored = client.score(["customer 007"] * 2 + ["nobody"], [*answer.movie_id[:2], "nothing"])
            np.testing.assert_allclose(scored.score[:2], answer.score[:2], atol=1e-5)
            assert scored.known.tolist() == [True, True, False]
            assert not client.recommend("nobody", k=3).known
            new = client.recommend(history=bought[:2], k=PRODUCTS)
            assert new.known
            assert set(new.movie_id) == set(own.sku) - set(bought[:2])
            assert bought[0] not in client.similar(bought[0], k=5).movie_id
        told = marquee("recommend", "--dataset", "orders", "--user", "customer 007", "--k", 2, *url, *at)
        assert answer.movie_id[0] in told.stdout
        alone = marquee("similar", "--repository", run.repository, "--movie", bought[0], "--k", 2, *url)
        assert f"like {bought[0]}" in alone.stdout
        assert "nothing is not in the data" in refusal(
            "similar", "--dataset", "orders", "--movie", "nothing", *url, *at
        )
        with (
            Client(f"127.0.0.1:{port}", timeout=HANG_SECONDS) as client,
            pytest.raises(Exception, match="must be BYTES"),
        ):
            client.recommend(7)
    written = marquee("export", "--saved-model", "--dataset", "orders", *at)
    assert (written.returncode, written.stderr) == (0, "")
    network = read_manifest(run.repository)["default_model"]
    saved = tf.saved_model.load(str(run.saved_models / network / "1" / "model.savedmodel"))
    asked = {"user_id": tf.constant(["customer 007"] * 2), "movie_id": tf.constant(list(answer.movie_id[:2]))}
    found = saved.signatures["serving_default"](**asked)["score"]
    np.testing.assert_allclose(found, answer.score[:2], atol=1e-5)
    assert "those of orders are others" in refusal("dashboard", "--dataset", "orders", *at)
    assert "those of orders are others" in refusal("export", "--runtime", "merlin", "--dataset", "orders", *at)
    assert "orders: 540 ratings, 60 users and 40 movies.\n" in (run.repository / "MODEL_CARD.md").read_text()
    version = read_manifest(run.repository)["version"]
    titles = pq.read_table(run.repository / "score" / str(version) / "titles.parquet")
    assert titles["movie_id"].to_pylist() == titles["title"].to_pylist() == sorted(set(own.sku))
