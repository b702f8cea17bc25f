"""KServe v2's inference messages in HTTP, with Triton's binary tensor data, to and from the protobufs of its gRPC."""

from dataclasses import dataclass
from typing import Annotated, Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from ensemble.front_door.json_tensors import bytes_of, malformed, packed, parsed, shown, unpacked
from ensemble.front_door.refusal import Refusal

MOST_TENSORS = 64
MOST_DIMENSIONS = 16
MICROSECONDS = 1e-6
LONGEST_WAIT = 3600.0  # seconds

Parameters = Annotated[dict[str, bool | int | float | str], Field(max_length=MOST_TENSORS)]


class _FromClient(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")  # Triton ignores what it does not know, too


class _Input(_FromClient):
    name: str
    datatype: str
    shape: Annotated[list[int], Field(max_length=MOST_DIMENSIONS)]
    parameters: Parameters = {}
    data: Any = None


class _Output(_FromClient):
    name: str
    parameters: Parameters = {}


class _Body(_FromClient):
    id: str = ""
    parameters: Parameters = {}
    inputs: Annotated[list[_Input], Field(max_length=MOST_TENSORS)]
    outputs: Annotated[list[_Output], Field(max_length=MOST_TENSORS)] = []


@dataclass(frozen=True)
class InferBody:
    """What a client's body asks for.

    Attributes:
        request: as gRPC would have brought it, all tensors in `raw_input_contents`.
        seconds: the client's patience; None where it did not say.
        binary: which outputs it wants as binary data.
        binary_others: whether it wants the other outputs so.
    """

    request: ModelInferRequest
    seconds: float | None
    binary: dict[str, bool]
    binary_others: bool


def read_infer_body(body: bytes, header_length: int | None, model: str, version: str) -> InferBody:
    """
    Args:
        body: JSON, and after it the binary data of its tensors.
        header_length: the bytes of JSON (`Inference-Header-Content-Length`); None where there is nothing else.
        model, version: from the URL; the version is empty where it has none.

    Raises:
        Refusal: it is not an inference request, or its tensors contradict themselves.
    """
    if not body:
        raise malformed("the body is empty; send an inference request in JSON", "bytes")
    length = len(body) if header_length is None else header_length
    if not 0 < length <= len(body):
        raise malformed(f"the JSON must have 1 to {len(body)} bytes of this body, not {length}", "bytes")
    try:
        asked = _Body.model_validate(parsed(body[:length] if length < len(body) else body))
    except ValidationError as error:
        raise _contradiction(error) from None
    request = ModelInferRequest(model_name=model, model_version=version, id=asked.id)
    seconds, binary_others = _own_parameters(asked.parameters)
    _set_parameters(request, asked.parameters)
    binary_data = memoryview(body)[length:]
    for tensor in asked.inputs:
        size, parameters = _binary_size(tensor)
        if size is None:
            raw = packed(tensor.name, tensor.datatype, tensor.shape, tensor.data)
        else:
            _check_size(tensor, size, len(binary_data))
            raw, binary_data = bytes(binary_data[:size]), binary_data[size:]
        added = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        _set_parameters(added, parameters)
        request.raw_input_contents.append(raw)
    if binary_data:
        raise malformed(f"{len(binary_data)} bytes of binary data belong to no input", "bytes")
    binary = {output.name: _wants_binary(output, binary_others) for output in asked.outputs}
    for name in binary:
        request.outputs.add(name=name)
    return InferBody(request, seconds, binary, binary_others)


def write_infer_body(response: ModelInferResponse, asked: InferBody) -> tuple[bytes, int | None]:
    """
    Returns:
        The body of the answer, and how many bytes of it are JSON where binary data follows.

    Raises:
        Refusal: JSON cannot say a value, or the response is not whole.
    """
    if len(response.outputs) != len(response.raw_output_contents):
        raise Refusal(grpc.StatusCode.INTERNAL, "the model's answer has outputs without contents", "triton")
    outputs, binary_data = [], []
    for output, raw in zip(response.outputs, response.raw_output_contents):
        written: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        parameters = _parameters_of(output)
        if asked.binary.get(output.name, asked.binary_others):
            parameters["binary_data_size"] = len(raw)
            binary_data.append(raw)
        else:
            written["data"] = unpacked(output.name, output.datatype, raw)
        if parameters:
            written["parameters"] = parameters
        outputs.append(written)
    whole: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        whole["id"] = response.id
    if parameters := _parameters_of(response):
        whole["parameters"] = parameters
    text = to_json(whole | {"outputs": outputs})
    return (b"".join([text, *binary_data]), len(text)) if binary_data else (text, None)


def plain(message: Message) -> dict[str, Any]:
    """A protobuf as Triton's HTTP shows it: the fields' own names, all of them, and 64-bit numbers as numbers."""
    shown_fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            shown_fields[field.name] = {key: _plain_value(field.message_type.fields[1], value[key]) for key in value}
        elif field.label == FieldDescriptor.LABEL_REPEATED:
            shown_fields[field.name] = [_plain_value(field, one) for one in value]
        elif (field.message_type is None and field.containing_oneof is None) or message.HasField(field.name):
            shown_fields[field.name] = _plain_value(field, value)
    return shown_fields


def _plain_value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named else value
    return value


def _contradiction(error: ValidationError) -> Refusal:
    """The first thing that pydantic found wrong, with its place: `inputs[0].shape[1]`."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"][:6])
    place = shown(place.lstrip("."))[1:-1] or "the body"
    return malformed(f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}", "type")


def _own_parameters(parameters: dict[str, Any]) -> tuple[float | None, bool]:
    """Takes out what is not Triton's business in HTTP: the client's patience, and whether outputs are binary."""
    timeout = parameters.pop("timeout", 0)
    if type(timeout) is not int or timeout < 0:
        raise malformed(f"the parameter timeout must be whole microseconds, not {shown(timeout)}", "type")
    binary = parameters.pop("binary_data_output", False)
    if type(binary) is not bool:
        raise malformed(f"the parameter binary_data_output must be true or false, not {shown(binary)}", "type")
    return min(timeout * MICROSECONDS, LONGEST_WAIT) if timeout else None, binary


def _binary_size(tensor: _Input) -> tuple[int | None, dict[str, Any]]:
    """How many bytes of the binary data are an input's; None where its data is in the JSON. And its other parameters.

    Raises:
        Refusal: it has no data, or both, or its data is in shared memory.
    """
    _refuse_shared_memory(tensor)
    others = dict(tensor.parameters)
    size = others.pop("binary_data_size", None)
    if size is None:
        if tensor.data is None:
            raise malformed(f"tensor {shown(tensor.name)} has no data", "bytes")
        return None, others
    if type(size) is not int or size < 0:
        raise malformed(f"tensor {shown(tensor.name)}: {shown(size)} is not a binary_data_size", "bytes")
    if tensor.data is not None:
        raise malformed(f"tensor {shown(tensor.name)} has data and a binary_data_size; leave one out", "bytes")
    return size, others


def _check_size(tensor: _Input, size: int, left: int) -> None:
    expected = bytes_of(tensor.name, tensor.datatype, tensor.shape)
    if expected is not None and size != expected:
        raise malformed(
            f"tensor {shown(tensor.name)}: its shape {shown(tensor.shape)} of {tensor.datatype} has {shown(expected)} "
            f"bytes, not {shown(size)}",
            "bytes",
        )
    if size > left:
        raise malformed(
            f"tensor {shown(tensor.name)}: its binary_data_size is {shown(size)}, and {left} bytes are left", "bytes"
        )


def _wants_binary(output: _Output, otherwise: bool) -> bool:
    _refuse_shared_memory(output)
    if output.parameters.get("classification"):
        raise malformed(f"output {shown(output.name)}: classification is not supported", "type")
    binary = output.parameters.get("binary_data", otherwise)
    if type(binary) is not bool:
        raise malformed(f"output {shown(output.name)}: binary_data must be true or false, not {shown(binary)}", "type")
    return binary


def _refuse_shared_memory(tensor: _Input | _Output) -> None:
    if any(name.startswith("shared_memory") for name in tensor.parameters):
        raise malformed(f"tensor {shown(tensor.name)}: shared memory is not supported; send the data", "type")


def _set_parameters(message: Any, parameters: dict[str, Any]) -> None:
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        try:
            setattr(message.parameters[name], kind, value)
        except ValueError:
            raise malformed(f"the parameter {shown(name)} does not fit 64 bits", "type") from None


def _parameters_of(message: Any) -> dict[str, Any]:
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in message.parameters.items()}
    return {name: getattr(message.parameters[name], choice) for name, choice in chosen.items() if choice}
