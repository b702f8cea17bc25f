"""What a model takes and gives, from its Triton configuration, and whether a request is that."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from google.protobuf.message import Message

from ensemble.front_door.refusal import bad
from ensemble.front_door.tensors import SIZES, check_raw, raw_from_typed

# Parameters of `config.pbtxt`, which Triton itself does not read; `export` writes them.
ROWS = "marquee.rows"  # inputs of one dimension each, the rows; rows are answered independently of each other
AT_MOST = "_at_most"  # `marquee.rows_at_most`, `marquee.history_at_most`: how long the rows, or an input, may be
PREFIX = "marquee."
PRIVATE = "marquee.private"  # why no client may ask this model
LONGEST = (1 << 31) - 1  # elements of an input without a limit of its own
TIMEOUT = "timeout"  # microseconds, in a request's parameters


@dataclass(frozen=True)
class Input:
    """An input tensor; a dimension of -1 may have any length, up to `at_most` elements in all (0: no bound)."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool
    at_most: int


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that is what its model takes.

    Attributes:
        tensors: name, datatype, shape and bytes of each input, in the order of the model's configuration.
        outputs: the names that were asked for; empty for all.
        rows: how many there are; 1 where the model has none.
        bytes: of all inputs together.
    """

    tensors: tuple[tuple[str, str, tuple[int, ...], bytes], ...]
    outputs: tuple[str, ...]
    rows: int
    bytes: int


class Signature:
    """A model's tensors.

    Args:
        config: Triton's `ModelConfig`.

    Attributes:
        rows: the inputs that hold rows; empty where requests can be neither joined nor cut.
        outputs: the datatype of each output, by name.
        private: why clients may not ask it; empty where they may.
    """

    def __init__(self, config: Message):
        parameters = {name: value.string_value for name, value in config.parameters.items()}
        self.model: str = config.name
        self.rows = frozenset(filter(None, parameters.get(ROWS, "").split(",")))
        self.rows_at_most = int(parameters.get(f"{ROWS}{AT_MOST}", 0))
        self.private = parameters.get(PRIVATE, "")
        batch = (-1,) if config.max_batch_size else ()
        self.inputs = {
            one.name: Input(
                one.name,
                _datatype(one),
                batch + tuple(one.dims),
                one.optional,
                self.rows_at_most if one.name in self.rows else int(parameters.get(f"{PREFIX}{one.name}{AT_MOST}", 0)),
            )
            for one in config.input
        }
        self.outputs = {one.name: _datatype(one) for one in config.output}
        if not self._has_rows(config):
            self.rows = frozenset()

    def _has_rows(self, config: Message) -> bool:
        """Whether its rows can be cut and joined: each is one element, of a fixed size, of each input and output."""
        inputs = [self.inputs.get(name) for name in self.rows]
        return all(one and one.dims == (-1,) and one.datatype in SIZES and not one.optional for one in inputs) and all(
            tuple(one.dims) == (-1,) and self.outputs[one.name] in SIZES for one in config.output
        )

    def check(self, request: Message) -> Checked:
        """
        Args:
            request: a `ModelInferRequest`.

        Raises:
            Refusal: it is not what the model takes; the sentence names the tensor.
        """
        given = {tensor.name: place for place, tensor in enumerate(request.inputs)}
        self._check_names(given, request)
        raws = request.raw_input_contents
        if raws and len(raws) != len(request.inputs):
            raise bad(f"{len(request.inputs)} inputs, and the bytes of {len(raws)}", "bytes")
        tensors, total, rows = [], 0, -1 if self.rows else 1
        for name, expected in self.inputs.items():
            place = given.get(name)
            if place is None:
                if not expected.optional:
                    raise bad(f"{name} is missing", "name")
                continue
            tensor = request.inputs[place]
            shape = tuple(tensor.shape)
            count = _check_shape(expected, tensor.datatype, shape)
            if name in self.rows:
                if rows not in (-1, shape[0]):
                    raise bad(f"{self._shapes(request)}; their shapes must be equal", "shape")
                rows = shape[0]
            if not raws:
                raw = raw_from_typed(name, expected.datatype, count, tensor.contents)
            elif tensor.HasField("contents"):
                raise bad(f"{name} has its values twice, as bytes and as a list", "bytes")
            else:
                raw = raws[place]
            check_raw(name, expected.datatype, count, raw)
            total += len(raw)
            tensors.append((name, expected.datatype, shape, raw))
        return Checked(tuple(tensors), tuple(one.name for one in request.outputs), rows, total)

    def _check_names(self, given: Mapping[str, int], request: Message) -> None:
        if len(given) != len(request.inputs):
            raise bad(f"an input of {self.model} is there twice", "name")
        if unknown := given.keys() - self.inputs.keys():
            known = _listed(self.inputs)
            raise bad(f"{self.model} has no input {min(unknown)[:60]!r}; it takes {known}", "name")
        if unknown := {one.name for one in request.outputs} - self.outputs.keys():
            known = _listed(self.outputs)
            raise bad(f"{self.model} has no output {min(unknown)[:60]!r}; it gives {known}", "name")
        if len(request.outputs) > len({one.name for one in request.outputs}):
            raise bad(f"an output of {self.model} is asked for twice", "name")
        for tensor in (*request.inputs, *request.outputs):
            for parameter in tensor.parameters:
                if parameter != "binary_data":
                    kind = "shared memory" if parameter.startswith("shared_memory") else f"{parameter[:60]!r}"
                    raise bad(f"{tensor.name}: {kind} is not served; send and take the values themselves", "name")

    def _shapes(self, request: Message) -> str:
        """The shapes of the rows."""
        found = [f"{one.name} has shape {list(one.shape)}" for one in request.inputs if one.name in self.rows]
        return " and ".join(found)


def _check_shape(expected: Input, datatype: str, shape: tuple[int, ...]) -> int:
    """The number of elements, computed without overflow."""
    name = expected.name
    if datatype != expected.datatype:
        raise bad(f"{name} is {datatype[:20] or 'of no type'}; it must be {expected.datatype}", "type")
    dims = expected.dims
    if len(shape) != len(dims) or any(found < 0 or dim not in (-1, found) for found, dim in zip(shape, dims)):
        wanted = ", ".join("n" if dim == -1 else str(dim) for dim in dims)
        raise bad(f"{name} has shape {list(shape)[:8]}; it must be [{wanted}]", "shape")
    count = prod(shape)
    at_most = expected.at_most or LONGEST
    if max(count, *shape, 0) > at_most:  # a dimension of 0 hides how long the others are
        raise bad(f"{name} has {max(count, *shape)} elements; ask for at most {at_most} at a time", "limit")
    return count


def _datatype(tensor: Message) -> str:
    """`INT64` of `TYPE_INT64`; Triton's configuration calls `BYTES` a string."""
    name = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name
    found = name.removeprefix("TYPE_")
    return "BYTES" if found == "STRING" else found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
