"""Rows are read to the last and no further: Merlin's loader waits for ever on a reader that ends after being asked."""

import threading
import time

import pytest
from merlin.dataloader import loader_base

from models.data.load import load_features
from tests.names import HANG_SECONDS
from workflows.splits.base import PARTS

ENDS_LATE = 0.3  # seconds between a reader's last chunk and its end


@pytest.fixture
def late_end(monkeypatch) -> None:
    """Readers stay alive a while after their last chunk, as on a busy machine."""
    load = loader_base.ChunkQueue.load_chunks

    def load_chunks(self, device) -> None:
        load(self, device)
        time.sleep(ENDS_LATE)

    monkeypatch.setattr(loader_base.ChunkQueue, "load_chunks", load_chunks)


@pytest.mark.usefixtures("late_end")
@pytest.mark.parametrize("rows_at_once", [100, 1 << 18])
def test_a_reader_that_ends_late_does_not_hang(prepared, monkeypatch, rows_at_once):
    monkeypatch.setattr("models.data.features.READ_ROWS", rows_at_once)
    features = load_features(prepared, "random-split")
    read = {}

    def read_all() -> None:
        read.update({part: len(features.interactions(part)) for part in PARTS})

    thread = threading.Thread(target=read_all, daemon=True)
    thread.start()
    thread.join(HANG_SECONDS / 20)
    assert not thread.is_alive()
    assert sum(read.values()) > 1_000


@pytest.mark.usefixtures("late_end")
def test_reading_leaves_no_thread_behind(prepared):
    before = threading.active_count()
    load_features(prepared, "random-split").interactions("valid")
    assert threading.active_count() == before


def test_an_error_of_the_reader_ends_the_reading(prepared, monkeypatch):
    def fails(self, chunks, batch_size):
        raise RuntimeError("this chunk cannot be read")

    monkeypatch.setattr(loader_base.ChunkQueue, "get_batch_div_chunk", fails)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="this chunk cannot be read"):
        load_features(prepared, "random-split").interactions("valid")
    assert threading.active_count() == before
