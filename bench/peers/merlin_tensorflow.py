"""Merlin Models' TensorFlow side: training samples per second of `mm.DLRMModel` and of `mm.benchmark.NCFModel`.

What a user of Merlin writes: the model from its own factory, `compile`, and `fit` over Merlin's own loader. Timed is
`fit` on a model that a few steps have already traced and compiled. It is at its best: no metrics, no progress bar, and
no smaller last batch, which would be traced once more.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the CPU is measured; with a driver Merlin would refuse this TensorFlow

import merlin.models.tf as mm
import tensorflow as tf
from merlin_loader import ending
from merlin_schema import dataset, schema
from peer import WARM_UP_STEPS, facts, parse, passes, training_parser, write_result

PACKAGES = ("merlin-models", "merlin-dataloader", "tensorflow-cpu", "numpy", "pandas")


def build(model: str, sizes: dict) -> mm.Model:
    """The model with the benchmark's widths, compiled."""
    columns = schema(sizes, model)
    output = mm.BinaryOutput("label", default_metrics_fn=list)
    if model == "dlrm":
        network = mm.DLRMModel(
            columns,
            embedding_dim=sizes["dim"],
            bottom_block=mm.MLPBlock([*sizes["bottom"], sizes["dim"]]),
            top_block=mm.MLPBlock(sizes["top"]),
            prediction_tasks=output,
        )
    else:
        network = mm.benchmark.NCFModel(
            columns, embedding_dim=sizes["dim"], mlp_block=mm.MLPBlock(sizes["ncf_top"]), prediction_tasks=output
        )
    network.compile(optimizer=tf.keras.optimizers.Adam(learning_rate=1e-3), run_eagerly=False)
    return network


def main() -> None:
    arguments = parse(training_parser(__doc__, ("dlrm", "ncf")))
    sizes = facts(arguments.data)
    rows = dataset(arguments.data, sizes, arguments.model)
    loader = ending(mm.Loader(rows, batch_size=arguments.batch_size, shuffle=True, drop_last=True))
    network = build(arguments.model, sizes)
    network.fit(loader, epochs=1, steps_per_epoch=min(WARM_UP_STEPS, len(loader)), verbose=0)
    epochs, steps = passes(arguments.samples, arguments.batch_size, len(loader))
    loader.stop()  # its thread would go on filling the queue
    start = time.perf_counter()
    history = network.fit(loader, epochs=epochs, steps_per_epoch=steps, verbose=0)
    seconds = time.perf_counter() - start
    loader.stop()
    samples = epochs * steps * arguments.batch_size
    write_result(
        arguments.out,
        PACKAGES,
        samples_per_second=samples / seconds,
        samples=samples,
        seconds=seconds,
        loss=history.history["loss_batch"][-1],
        weights=sum(int(tf.size(weight)) for weight in network.trainable_weights),
    )


if __name__ == "__main__":
    main()
