"""One request to Triton for the slices of several, and each one's part of the answer."""

from collections.abc import Sequence
from math import prod

from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from ensemble.front_door.schedule import Slice, Waiting
from ensemble.front_door.tensors import SIZES

Part = tuple[bytes, ...]  # the bytes of each output


class WrongAnswerError(Exception):
    """Triton's answer is not of the shape that its configuration says."""


def joined(slices: Sequence[Slice]) -> Message:
    """The `ModelInferRequest` that asks all slices, which have equal keys, at once."""
    first = slices[0].of
    rows = first.signature.rows
    request = service_pb2.ModelInferRequest(model_name=first.signature.model, model_version=first.version)
    total = sum(one.stop - one.start for one in slices)
    for place, (name, datatype, shape, raw) in enumerate(first.checked.tensors):
        if name not in rows:
            request.inputs.add(name=name, datatype=datatype, shape=shape)
            request.raw_input_contents.append(raw)
            continue
        size = SIZES[datatype]
        request.inputs.add(name=name, datatype=datatype, shape=(total,))
        request.raw_input_contents.append(
            b"".join(one.of.checked.tensors[place][3][one.start * size : one.stop * size] for one in slices)
        )
    for output in first.checked.outputs:
        request.outputs.add(name=output)
    return request


def parts(slices: Sequence[Slice], answer: Message) -> list[Part]:
    """Each slice's bytes of each output.

    Raises:
        WrongAnswerError: an output does not have the rows that were asked.
    """
    raws = answer.raw_output_contents
    first = slices[0].of
    if {one.name for one in answer.outputs} != set(first.checked.outputs or first.signature.outputs):
        raise WrongAnswerError(f"{answer.model_name} answers with other outputs than were asked for")
    if len(raws) != len(answer.outputs):
        raise WrongAnswerError(f"{answer.model_name} answers without the bytes of its outputs")
    has_rows = bool(first.signature.rows)
    total = sum(one.stop - one.start for one in slices)
    sizes = [SIZES.get(output.datatype, 0) for output in answer.outputs]
    for output, size, raw in zip(answer.outputs, sizes, raws):
        count = total if has_rows else prod(output.shape)
        if len(raw) != count * size and (size or has_rows):
            raise WrongAnswerError(f"{output.name} has {len(raw)} bytes for {count} elements of {output.datatype}")
    if not has_rows:
        return [tuple(raws)]
    found, start = [], 0
    for one in slices:
        stop = start + one.stop - one.start
        found.append(tuple(raw[start * size : stop * size] for size, raw in zip(sizes, raws)))
        start = stop
    return found


def whole(request: Waiting, answer: Message, identity: str) -> Message:
    """The `ModelInferResponse` to a request, from its parts.

    Args:
        answer: Triton's answer to any of its slices, for the names, types and the version.
        identity: the id that the client gave its request.
    """
    response = service_pb2.ModelInferResponse(
        model_name=answer.model_name, model_version=answer.model_version, id=identity
    )
    pieces = [request.parts[start] for start in sorted(request.parts)]
    for place, output in enumerate(answer.outputs):
        shape = (request.checked.rows,) if request.signature.rows else output.shape
        response.outputs.add(name=output.name, datatype=output.datatype, shape=shape)
        response.raw_output_contents.append(
            pieces[0][place] if len(pieces) == 1 else b"".join(piece[place] for piece in pieces)
        )
    return response
