"""What an ONNX file may be, found by walking its bytes before anything loads it.

A model is a protobuf message (github.com/onnx/onnx, onnx.proto). Only the few fields that decide are looked at:
operators, tensors and their place, inputs and outputs. Neither `onnx` nor `protobuf` is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from anomaly.errors import ModelError

MAX_BYTES = 32 * 1024 * 1024
OPSETS = {"": range(13, 26), "ai.onnx.ml": range(1, 6)}
"""Versions of each operator domain that a model may ask for."""
OPERATORS = {
    "": frozenset(
        """Abs Add And Cast Ceil Clip Concat Constant Div Elu Equal Erf Exp Flatten Floor Gather Gemm Greater
        GreaterOrEqual Identity LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max Mean Min Mul Neg Not Or Pow
        ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape
        Round Selu Sigmoid Sign Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze Where
        Xor""".split()  # noqa: SIM905  # sixty quoted words are harder to read
    ),
    "ai.onnx.ml": frozenset(
        ["LinearRegressor", "Normalizer", "Scaler", "SVMRegressor", "TreeEnsemble", "TreeEnsembleRegressor"]
    ),
}
"""Operators that a model may use: arithmetic, no loops, no subgraphs, nothing that makes a shape from a number."""
FLOAT = 1

# Of each message in onnx.proto, the fields that hold another message worth a look.
_INSIDE = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 11: "input", 12: "output", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "subgraph", 10: "tensor", 11: "subgraph", 22: "sparse", 23: "sparse"},
    "tensor": {13: "external"},
    "input": {2: "type"},
    "output": {2: "type"},
    "type": {1: "tensor type"},
    "tensor type": {2: "shape"},
    "shape": {1: "dimension"},
}
_FORBIDDEN = {
    "training": "holds training steps, which are not allowed",
    "function": "holds functions of its own, which are not allowed",
    "sparse": "holds sparse tensors, which are not allowed",
    "subgraph": "holds a graph inside an operator, which is not allowed",
    "external": "wants to read another file (external data); save it with all weights inside",
}
_NO_MODEL = "this is no ONNX model: its bytes are not a protobuf message"
_CUT_SHORT = "this is no whole ONNX model: the file is cut short or damaged"


class Port(NamedTuple):
    """An input or output: its name, its ONNX element type, its dimensions (None where they are free)."""

    name: str
    element: int
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("n" if size is None else str(size) for size in self.shape)
        return f"`{self.name}` {'float32' if self.element == FLOAT else f'type {self.element}'}[{dims}]"


class Contract(NamedTuple):
    """What a harmless model takes and gives: width of `features`, names of its outputs, its default opset."""

    width: int
    outputs: tuple[str, ...]
    opset: int


class _Message(NamedTuple):
    """A message: what it is, the last value of each of its plain fields, and the messages inside it."""

    kind: str
    fields: dict[int, int | memoryview]
    inside: list[_Message]

    def all(self, kind: str) -> list[_Message]:
        """Every message of `kind` in it, at any depth."""
        found = [self] if self.kind == kind else []
        return found + [message for inner in self.inside for message in inner.all(kind)]

    def text(self, number: int) -> str:
        """The string in field `number`."""
        value = self.fields.get(number, memoryview(b""))
        if isinstance(value, int):
            raise ModelError(_NO_MODEL)
        return bytes(value[:100]).decode("utf-8", "replace")

    def domain(self, number: int) -> str:
        """The operator domain in field `number`; the standard one is "" by either of its names."""
        name = self.text(number)
        return "" if name == "ai.onnx" else name


def check(model: bytes, signals: int | None = None) -> Contract:
    """The contract of `model`; ModelError with everything that forbids loading it.

    `signals` is the number of signals that `contribution` must have a column for, where it is known.
    """
    _refuse_other_files(model)
    tree = _parse(memoryview(model), "model")
    inputs = [_port(message) for message in tree.all("input")]
    outputs = [_port(message) for message in tree.all("output")]
    opsets = {message.domain(1): message.fields.get(2, 0) for message in tree.all("opset")}
    problems = [
        *(said for kind, said in _FORBIDDEN.items() if tree.all(kind)),
        *_operator_problems(tree),
        *_opset_problems(opsets),
        *_port_problems(inputs, outputs, signals),
    ]
    if problems:
        raise ModelError("\n  ".join(["the model is refused:", *dict.fromkeys(problems)]))
    width, opset = inputs[0].shape[1], opsets[""]
    return Contract(int(width or 0), tuple(port.name for port in outputs), opset if isinstance(opset, int) else 0)


def _refuse_other_files(model: bytes) -> None:
    if not model:
        raise ModelError("the model file is empty")
    if len(model) > MAX_BYTES:
        raise ModelError(f"the model has {len(model):,} bytes; at most {MAX_BYTES:,} are allowed")
    if model[:1] == b"\x80" and model[-1:] == b".":
        raise ModelError("this is a Python pickle, which could run anything; export the model as ONNX")


def _operator_problems(tree: _Message) -> Iterator[str]:
    for node in tree.all("node"):
        operator, domain = node.text(4), node.domain(7)
        if operator not in OPERATORS.get(domain, ()):
            of = f" of the domain `{domain}`" if domain else ""
            yield f"uses the operator `{operator}`{of}, which is not among the allowed ones"
    if any(tensor.fields.get(14, 0) != 0 for tensor in tree.all("tensor")):
        yield _FORBIDDEN["external"]


def _opset_problems(opsets: dict[str, int | memoryview]) -> Iterator[str]:
    if "" not in opsets:
        yield "does not say which ONNX opset it uses"
    for domain, version in opsets.items():
        known = OPSETS.get(domain)
        if known is None:
            yield f"uses operators of the domain `{domain}`; only standard ones are allowed"
        elif version not in known:
            yield f"uses opset {version!r} of `{domain or 'ai.onnx'}`; {known[0]} to {known[-1]} are known"


def _port_problems(inputs: Sequence[Port], outputs: Sequence[Port], signals: int | None) -> Iterator[str]:
    if [port.name for port in inputs] != ["features"] or not (_fits(inputs[0], 2) and inputs[0].shape[1]):
        yield f"its input must be `features` float32[n, width] alone, not {_listed(inputs)}"
    ranks = {"score": 1, "score_abrupt": 1, "contribution": 2, "contribution_abrupt": 2}
    names = [port.name for port in outputs]
    wrong = [port for port in outputs if not _fits(port, ranks.get(port.name, 0))]
    if "score" not in names or wrong or len(set(names)) != len(names):
        yield (
            "its outputs must be `score` float32[n] and, where it has them, `score_abrupt` float32[n], `contribution` "
            f"and `contribution_abrupt` float32[n, signals], not {_listed(outputs)}"
        )
    for port in outputs:
        if port.name.startswith("contribution") and signals is not None and port.shape[1:] != (signals,):
            yield f"`{port.name}` must have {signals} columns, one a signal, and is {port}"


def _fits(port: Port, rank: int) -> bool:
    return port.element == FLOAT and len(port.shape) == rank > 0 and port.shape[0] is None


def _listed(ports: Sequence[Port]) -> str:
    return ", ".join(map(str, ports)) or "nothing"


def _port(message: _Message) -> Port:
    elements = [tensor.fields.get(1, 0) for tensor in message.all("tensor type")]
    sizes = [dimension.fields.get(1) for dimension in message.all("dimension")]
    shape = tuple(size if isinstance(size, int) else None for size in sizes)
    return Port(message.text(1), int(elements[-1]) if elements and isinstance(elements[-1], int) else 0, shape)


def _parse(data: memoryview, kind: str) -> _Message:
    """Read a message of `kind` by the wire format (protobuf.dev/programming-guides/encoding)."""
    message = _Message(kind, {}, [])
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            message.fields[number], at = _varint(data, at)
            continue
        size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, -1), at)
        if size < 0 or not 0 < number < 1 << 29:
            raise ModelError(_NO_MODEL)
        if size > len(data) - at:
            raise ModelError(_CUT_SHORT)
        value, at = data[at : at + size], at + size
        inner = _INSIDE.get(kind, {}).get(number) if wire == 2 else None
        if inner:
            message.inside.append(_parse(value, inner))
        else:
            message.fields[number] = value
    return message


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The base-128 number at `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ModelError(_CUT_SHORT)
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ModelError(_NO_MODEL)
