"""Merlin's loader without its wait for ever, for its TensorFlow and its PyTorch side alike."""

from merlin.dataloader.loader_base import LoaderBase


def ending(loader: LoaderBase) -> LoaderBase:
    """The loader, whose reader says when it has read everything.

    Merlin 23.8 takes a reader that is still alive for one that has more to give, and waits for it: where it has nothing
    left and ends a moment later, for ever.
    """
    queue = loader._buff
    load = queue.load_chunks

    def load_chunks(device: int | str) -> None:
        load(device)
        queue.put(StopIteration())  # which the loader raises, as any error of its reader

    queue.load_chunks = load_chunks
    return loader
