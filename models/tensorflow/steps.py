"""The steps of a training in TensorFlow: a twin's scores and gradients, and Keras' Adam.

The loss is the protocol's own, taken by PyTorch from the twin's scores, whose gradient TensorFlow then carries on. So a
protocol has one loss, and both frameworks minimise it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from torch import Tensor

from models.data.batches import Batch, epoch_seed
from models.data.features import Features
from models.networks.base import NetworkSettings, Recommender
from models.tensorflow.base import TWINS, Pair, Twin
from models.tensorflow.inputs import pair_inputs, shared_inputs
from models.training.checkpoint import Trainee
from models.training.epoch import Task

EPSILON = 1e-8  # PyTorch's
MOMENTS = {"exp_avg": "m", "exp_avg_sq": "v"}  # PyTorch's names of Adam's state, and Keras'
COMPARED = 1000  # pairs of users and movies


class TwinSteps:
    """Trains a network's twin.

    At the start of an epoch it takes weights and Adam's state from the trainee, and at its end gives them back.
    """

    def __init__(self, features: Features):
        self.features = features
        self.compiled: _Compiled | None = None

    @contextmanager
    def __call__(self, trainee: Trainee, task: Task, number: int) -> Iterator["TwinEpoch"]:
        if self.compiled is None:
            with suppress(RuntimeError):  # TensorFlow has computed already in this process
                tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
                tf.config.threading.set_inter_op_parallelism_threads(1)
            self.compiled = _Compiled(trainee.model, self.features, task)
        epoch = TwinEpoch(self.compiled, trainee, task, epoch_seed(task.settings.seed, number))
        yield epoch
        epoch.end()


class _Traced:
    """A function of named tensors, traced once for batches of any size: a trace takes seconds."""

    def __init__(self, function: Callable[[dict[str, tf.Tensor]], Any]):
        self.function = function
        self.traced: Any = None

    def __call__(self, inputs: dict[str, tf.Tensor]) -> Any:
        if self.traced is None:
            of_any_size = {name: tf.TensorSpec([None, *one.shape[1:]], one.dtype) for name, one in inputs.items()}
            self.traced = tf.function(self.function, input_signature=[of_any_size])
        return self.traced(inputs)


class _Compiled:
    """A twin, its optimizer, and what TensorFlow has compiled of both."""

    def __init__(self, model: Recommender, features: Features, task: Task):
        settings = task.settings
        self.twin: Twin = TWINS[model.name](model, features, settings.network)
        self.pairs: list[Pair] = self.twin.pairs(model)
        self.variables = [pair.variable for pair in self.pairs]
        self.penalised, self.decay = bool(settings.l2), settings.weight_decay
        self.epsilon = tf.Variable(EPSILON)
        self.optimizer = tf.keras.optimizers.legacy.Adam(learning_rate=settings.learning_rate)
        self.optimizer.epsilon = self.epsilon
        # Keras makes its state in the first step: here one that changes nothing, as weights are loaded after it.
        self.optimizer.apply_gradients([(tf.zeros_like(one), one) for one in self.variables])
        self.scores = _Traced(self._scores)
        self.against = _Traced(self._against)
        self.update = tf.function(self._update, reduce_retracing=True)

    def _scores(self, inputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return self.twin.scores(inputs), self._squares(inputs)

    def _against(self, inputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return self.twin.against(inputs), self._squares(inputs)

    def _squares(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return self.twin.squares(inputs) if self.penalised else tf.zeros(())

    def _update(self, gradients: list[Any]) -> None:
        found = [(gradient, one) for gradient, one in zip(gradients, self.variables) if gradient is not None]
        if self.decay:
            found = [(tf.convert_to_tensor(gradient) + self.decay * one, one) for gradient, one in found]
        self.optimizer.apply_gradients(found)


class TwinEpoch:
    """The steps of one epoch."""

    def __init__(self, compiled: _Compiled, trainee: Trainee, task: Task, seed: int):
        self.compiled, self.trainee, self.task, self.seed = compiled, trainee, task, seed
        self.done = 0
        compiled.twin.load(compiled.pairs)
        for pair, slots in self._states():
            for name, slot in slots.items():
                slot.assign(pair.to_twin(trainee.optimizer.state[pair.parameter][name]))
            compiled.optimizer.iterations.assign(int(trainee.optimizer.state[pair.parameter]["step"]))

    def step(self, batch: Batch) -> Tensor:
        """Changes the twin by one batch; returns its mean loss without penalties."""
        compiled, model, settings = self.compiled, self.trainee.model, self.task.settings
        self.done += 1
        compiled.twin.seed.assign([self.seed, self.done])
        is_shared = batch.shared is not None
        inputs = (shared_inputs if is_shared else pair_inputs)(model, batch)
        tensors = {name: tf.constant(values) for name, values in inputs.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(compiled.variables)
            outputs, squares = (compiled.against if is_shared else compiled.scores)(tensors)
        scores = torch.from_numpy(outputs.numpy()).requires_grad_()
        loss = self.task.objective.loss(scores + model.offset, batch)
        loss.backward()
        into = [tf.constant(scores.grad.numpy()), tf.constant(np.float32(settings.l2 / len(batch)))]
        gradients = tape.gradient([outputs, squares], compiled.variables, output_gradients=into)
        self._set_rates()
        compiled.update(gradients)
        return loss.detach()

    def write(self) -> None:
        """Brings the network's weights to where the twin's are."""
        self.compiled.twin.give_back(self.compiled.pairs)

    def end(self) -> None:
        """Gives weights and Adam's state back to the trainee."""
        self.write()
        self.compiled.twin.seed.assign([0, 0])
        with torch.no_grad():
            for pair, slots in self._states():
                state = self.trainee.optimizer.state[pair.parameter]
                state["step"].fill_(int(self.compiled.optimizer.iterations))
                for name, slot in slots.items():
                    state[name].copy_(pair.to_network(slot.numpy()))

    def _states(self) -> Iterator[tuple[Pair, dict[str, tf.Variable]]]:
        """Each weight, with Keras' state by PyTorch's names; makes PyTorch's where there is none yet."""
        for pair in self.compiled.pairs:
            state = self.trainee.optimizer.state[pair.parameter]
            if not state:
                state["step"] = torch.zeros(())
                state.update({name: torch.zeros_like(pair.parameter) for name in MOMENTS})
            yield pair, {name: self.compiled.optimizer.get_slot(pair.variable, slot) for name, slot in MOMENTS.items()}

    def _set_rates(self) -> None:
        """The rate of the schedule; and PyTorch's epsilon, which Keras adds before it corrects the second moment."""
        optimizer = self.compiled.optimizer
        optimizer.learning_rate.assign(self.trainee.optimizer.param_groups[0]["lr"])
        past = float(optimizer.beta_2) ** (int(optimizer.iterations) + 1)
        self.compiled.epsilon.assign(EPSILON * (1 - past) ** 0.5)


@torch.no_grad()
def difference(model: Recommender, features: Features, settings: NetworkSettings) -> float:
    """The largest difference between a network's scores and its twin's, of `COMPARED` pairs drawn at random."""
    generator = torch.Generator().manual_seed(0)
    user, movie = (torch.randint(size, (COMPARED,), generator=generator) for size in (features.users, features.movies))
    twin = TWINS[model.name](model, features, settings)
    twin.load(twin.pairs(model))
    inputs = {name: tf.constant(values.numpy()) for name, values in model.inputs(user, movie).items()}
    scores = torch.from_numpy(twin.scores(inputs).numpy()) * model.scale + model.offset
    was_training = model.training
    own = model.eval()(user, movie)
    model.train(was_training)
    return float((scores - own).abs().max())
