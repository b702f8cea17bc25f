"""Search spaces, and where settings lie in them, as Optuna has it."""

from dataclasses import fields, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from models.baselines.base import baselines_of
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.search_space import Integer, Log, OneOf, Range, SearchSpace
from models.training.settings import TrainSettings

# What a study of any network searches; the protocol's and the network's own come after it.
NETWORK_SPACE: SearchSpace = {
    "dim": OneOf(16, 32, 64),
    "init_std": Log(0.005, 0.2),
    "learning_rate": Log(3e-4, 1e-2),
    "batch_size": OneOf(512, 1024, 2048, 4096),
    "schedule": OneOf("constant", "cosine"),
    "l2": Log(1e-5, 0.1),
    "averaging": OneOf(0.99, 0.995, 0.999),
}


def space(protocol: str, name: str) -> SearchSpace:
    """The search space of a network or baseline."""
    if name in NETWORKS:
        return {**NETWORK_SPACE, **PROTOCOLS[protocol].space, **NETWORKS[name].space}
    return baselines_of(protocol)[name].space


def distributions_of(space: SearchSpace) -> dict[str, BaseDistribution]:
    """A search space as Optuna has it."""
    return {name: _distribution(parameter) for name, parameter in space.items()}


def _distribution(parameter: Range) -> BaseDistribution:
    if isinstance(parameter, OneOf):
        return CategoricalDistribution(tuple(parameter.choices))
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=isinstance(parameter, Log))


def values_of(parameters: dict[str, Any], space: SearchSpace) -> dict[str, Any]:
    """The values that the parameters of a trial stand for: Optuna has the names of choices."""
    known = {name: space[name] for name in parameters}
    return {
        name: parameter.choices[parameters[name]] if isinstance(parameter, OneOf) else parameters[name]
        for name, parameter in known.items()
    }


def with_parameters(base: Any, space: SearchSpace, parameters: dict[str, Any]) -> Any:
    """Settings with the parameters of a trial; what is not among them is as in `base`."""
    chosen = values_of(parameters, space)
    if not isinstance(base, TrainSettings):
        return replace(base, **chosen)
    own = {field.name for field in fields(base.network)}
    network = {name: value for name, value in chosen.items() if name in own}
    rest = {name: value for name, value in chosen.items() if name not in own}
    return replace(base, network=replace(base.network, **network), **rest)


def parameters_of(settings: Any, space: SearchSpace) -> dict[str, Any]:
    """Where settings lie in a search space, as far as they lie in it."""
    flat = _flat(settings)
    found = {}
    for name, parameter in space.items():
        value = flat[name]
        if isinstance(parameter, OneOf):
            labels = [label for label, choice in parameter.choices.items() if choice == value]
            if labels:
                found[name] = labels[0]
        elif parameter.low <= value <= parameter.high:
            found[name] = value
    return found


def outside_of(settings: Any, space: SearchSpace) -> dict[str, Any]:
    """The settings that lie outside of a search space, by name, as `repr` has them."""
    return {name: repr(value) for name, value in _flat(settings).items() if name not in {*space, "network", "seed"}}


def nearest_parameters(settings: Any, space: SearchSpace) -> dict[str, Any]:
    """The point of a search space that is nearest to settings, wherever they lie."""
    flat = _flat(settings)
    return {name: _nearest(parameter, flat[name]) for name, parameter in space.items()}


def _nearest(parameter: Range, value: Any) -> Any:
    if not isinstance(parameter, OneOf):
        return min(max(value, parameter.low), parameter.high)
    numbers = {label: choice for label, choice in parameter.choices.items() if isinstance(choice, (int, float))}
    if isinstance(value, (int, float)) and numbers:
        return min(numbers, key=lambda label: abs(numbers[label] - value))
    return next(iter(parameter.choices))


def _flat(settings: Any) -> dict[str, Any]:
    flat = {field.name: getattr(settings, field.name) for field in fields(settings)}
    if isinstance(settings, TrainSettings):
        flat |= {field.name: getattr(settings.network, field.name) for field in fields(settings.network)}
    return flat
