"""The loader of the benchmark's Merlin peers ends, where its reader ends late, and where it fails."""

import importlib.util
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from merlin.dataloader import loader_base
from merlin.dataloader.torch import Loader
from merlin.io import Dataset

from tests.names import HANG_SECONDS

PEERS = Path(__file__).resolve().parents[1] / "bench" / "peers"
ROWS = 1_000


@pytest.fixture(scope="module")
def ending():
    spec = importlib.util.spec_from_file_location("merlin_loader", PEERS / "merlin_loader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ending


@pytest.fixture
def loader(ending, monkeypatch):
    load = loader_base.ChunkQueue.load_chunks

    def load_chunks(self, device) -> None:
        load(self, device)
        time.sleep(0.3)

    monkeypatch.setattr(loader_base.ChunkQueue, "load_chunks", load_chunks)
    return ending(Loader(Dataset(pd.DataFrame({"x": range(ROWS)}), cpu=True), batch_size=100))


def in_a_thread(work) -> None:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(HANG_SECONDS / 20)
    assert not thread.is_alive()


def test_a_loader_ends_every_epoch_where_its_reader_ends_late(loader):
    seen: list[int] = []
    in_a_thread(lambda: seen.extend(sum(len(inputs["x"]) for inputs, _ in loader) for _ in range(2)))
    assert seen == [ROWS, ROWS]


def test_a_loader_that_was_left_starts_afresh(loader):
    next(iter(loader))
    loader.stop()
    seen: list[int] = []
    in_a_thread(lambda: seen.append(sum(len(inputs["x"]) for inputs, _ in loader)))
    assert seen == [ROWS]


@pytest.mark.parametrize("peer", ["merlin_tensorflow.py", "merlin_lightning.py"])
def test_the_peers_take_it(peer):
    assert "loader = ending(" in (PEERS / peer).read_text()


@pytest.mark.parametrize("peer", [path for path in PEERS.glob("*.py") if "merlin" in path.read_text().lower()])
def test_the_peers_measure_the_cpu_before_merlin_is_imported(peer):
    lines = peer.read_text().splitlines()
    if not any("__main__" in line for line in lines):
        return
    merlin = next(
        (n for n, line in enumerate(lines) if line.startswith(("import merlin", "from merlin", "import nvtabular"))),
        None,
    )
    if merlin is not None:
        assert any('os.environ["CUDA_VISIBLE_DEVICES"] = ""' in line for line in lines[:merlin])
