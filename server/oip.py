"""The Open Inference Protocol, version 2: parsing and formatting, with the binary tensor extension.

Owns what the bytes of an infer request and response mean and every reason to refuse them
(status 400, with the words of the protocol's reference server where clients look for them). Pure
functions, no I/O: which ticket answers is decided elsewhere. `server.oip_tensors` turns
one tensor's data into bytes and back.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server import oip_tensors
from server.errors import BadRequest
from server.tensor import Tensor
from tickets.manifest import Tensor as Spec

Size = Annotated[int, Meta(ge=0, le=1 << 31)]


class RequestInput(msgspec.Struct, frozen=True, kw_only=True):
    """One input tensor: ``data`` nested or flat, or ``parameters.binary_data_size`` bytes after the JSON."""

    name: str
    shape: Annotated[list[Size], Meta(max_length=8)]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = msgspec.UNSET


class RequestOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output that is wanted; ``parameters.binary_data`` asks for it as bytes."""

    name: str
    parameters: dict[str, Any] = {}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An infer request's JSON."""

    id: str = ""
    parameters: dict[str, Any] = {}
    inputs: list[RequestInput]
    outputs: list[RequestOutput] | None = None


class Infer(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has been checked against the model's inputs and outputs."""

    id: str
    inputs: list[Tensor]
    outputs: list[tuple[str, bool]]
    """Names of the outputs wanted, in order, and whether each goes out as binary."""
    tier: str | None = None
    deadline_ms: float | None = None
    priority: int | None = None


class ResponseOutput(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One output tensor of a response."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[Any] | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An infer response's JSON."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, str | float | None]
    outputs: list[ResponseOutput]


_request = msgspec.json.Decoder(Request)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What parsing needs to know of a model."""

    name: str
    inputs: Sequence[Spec]
    outputs: Sequence[Spec]
    is_text: bool = False
    """BYTES inputs are texts, and follow the rules of server.text."""


def parse(body: bytes, header_length: bytes | None, model: Model) -> Infer:
    """The request in ``body``. ``header_length`` is the Inference-Header-Content-Length header. Raises BadRequest."""
    json_bytes = _json_bytes(header_length, len(body))
    if json_bytes == 0 and header_length is not None:
        return _raw_binary(body, model)
    if not body:
        raise BadRequest("the body is empty; send an inference request as JSON")
    try:
        request = _request.decode(memoryview(body)[:json_bytes])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"failed to parse the request JSON: {error}") from error
    _check_inputs(request, model)
    tier, deadline_ms, priority = _promise(request.parameters)
    inputs = oip_tensors.read_inputs(request.inputs, memoryview(body)[json_bytes:], is_text=model.is_text)
    return Infer(
        id=request.id, inputs=inputs, outputs=_wanted(request, model), tier=tier, deadline_ms=deadline_ms,
        priority=priority,
    )  # fmt: skip


def render(
    response_id: str, model: tuple[str, str], parameters: dict[str, str | float | None],
    outputs: Sequence[tuple[Tensor, bool]],
) -> tuple[bytes, int | None]:  # fmt: skip
    """The response's body, and the length of its JSON when binary tensors follow. ``model`` is (name, version)."""
    parts: list[bytes] = []
    rendered: list[ResponseOutput] = []
    for tensor, is_binary in outputs:
        if is_binary:
            parts.append(tensor.data)
            size = {"binary_data_size": len(tensor.data)}
            rendered.append(
                ResponseOutput(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, parameters=size)
            )
        else:
            data = oip_tensors.to_json(tensor)
            rendered.append(ResponseOutput(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, data=data))
    head = msgspec.json.encode(
        Response(model_name=model[0], model_version=model[1], id=response_id, parameters=parameters, outputs=rendered)
    )
    return (b"".join([head, *parts]), len(head)) if parts else (head, None)


def _json_bytes(header_length: bytes | None, body_bytes: int) -> int:
    if header_length is None:
        return body_bytes
    text = header_length.decode("latin-1")
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 12):
        raise BadRequest(f"Unable to parse Inference-Header-Content-Length, got: {text[:64]}")
    length = int(text)
    if not 0 <= length <= body_bytes:
        raise BadRequest(f"inference header size should be in range (0, {body_bytes}), got: {length}")
    return length


def _check_inputs(request: Request, model: Model) -> None:
    specs = {spec.name: spec for spec in model.inputs}
    names = [tensor.name for tensor in request.inputs]
    for tensor in request.inputs:
        if tensor.name not in specs:
            raise BadRequest(f"unexpected inference input '{tensor.name[:128]}' for model '{model.name}'")
    if len(names) != len(specs) or len(set(names)) != len(names):
        missing = sorted(set(specs) - set(names))
        raise BadRequest(
            f"expected {len(specs)} inputs but got {len(names)} inputs for model '{model.name}'"
            f" (got {names}, missing {missing})"
        )
    for tensor in request.inputs:
        spec = specs[tensor.name]
        if tensor.datatype != spec.datatype:
            raise BadRequest(
                f"inference input '{tensor.name}' data-type is '{tensor.datatype[:32]}',"
                f" but model '{model.name}' expects '{spec.datatype}'"
            )
        fits = len(tensor.shape) == len(spec.shape) and all(
            want in (-1, got) for got, want in zip(tensor.shape, spec.shape, strict=True)
        )
        if not fits:
            raise BadRequest(
                f"unexpected shape for input '{tensor.name}' for model '{model.name}'."
                f" Expected {spec.shape}, got {tensor.shape}"
            )


def _promise(parameters: dict[str, Any]) -> tuple[str | None, float | None, int | None]:
    """Tier, deadline and priority from the request's parameters. ``timeout`` is in microseconds, 0 meaning none;
    ``priority`` is 1 (first) to 3 (last), 0 meaning the default, as in the protocol's reference server."""
    tier = parameters.get("tier")
    if tier is not None and not isinstance(tier, str):
        raise BadRequest("parameters.tier must be a string")
    deadline_ms = _number(parameters, "deadline_ms")
    timeout_us = _number(parameters, "timeout")
    if deadline_ms is None and timeout_us:
        deadline_ms = timeout_us / 1000
    priority = _number(parameters, "priority")
    if priority is not None and priority not in (0, 1, 2, 3):
        raise BadRequest("parameters.priority must be 1 (first), 2 or 3 (last), or 0 for the default")
    return tier, deadline_ms, int(priority) if priority else None


def _number(parameters: dict[str, Any], name: str) -> float | None:
    value = parameters.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"parameters.{name} must be a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise BadRequest(f"parameters.{name} is out of range") from error
    if not math.isfinite(number) or number < 0:
        raise BadRequest(f"parameters.{name} must be a finite number that is not negative")
    return number


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"parameters.{name} must be true or false")
    return value


def _wanted(request: Request, model: Model) -> list[tuple[str, bool]]:
    is_binary = _flag(request.parameters, "binary_data_output", default=False)
    known = [spec.name for spec in model.outputs]
    if not request.outputs:
        return [(name, is_binary) for name in known]
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        if output.name not in known:
            raise BadRequest(f"unexpected inference output '{output.name[:128]}' for model '{model.name}'")
        wanted[output.name] = _flag(output.parameters, "binary_data", default=is_binary)
    return list(wanted.items())


def _raw_binary(body: bytes, model: Model) -> Infer:
    """The whole body is the only input's data: one element of batch 1. Every output goes out as binary."""
    if len(model.inputs) != 1:
        raise BadRequest(f"raw input is only for models with one input; model '{model.name}' has {len(model.inputs)}")
    inputs = [oip_tensors.read_raw(body, model.inputs[0], is_text=model.is_text)]
    return Infer(id="", inputs=inputs, outputs=[(spec.name, True) for spec in model.outputs])
