"""What an ONNX file says, as far as a score can be made a program of it: nodes and constants (onnx.proto).

The file was found harmless and was loaded by ONNX Runtime before; `onnx` takes a while to load and is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_TYPES = {1: "<f4", 7: "<i8"}
_GRAPH, _NODE, _CONSTANT = 7, 1, 5


class Node(NamedTuple):
    """An operator, the names of its inputs and of its first output, its whole-number attributes."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    numbers: dict[str, int]


def read(model: bytes) -> tuple[list[Node], dict[str, NDArray[Any]]]:
    """Nodes in the order in which they run, and constants of float32 and int64 with their bytes in one piece."""
    graph = _all(memoryview(model), _GRAPH)[0]
    nodes = [_node(data) for data in _all(graph, _NODE)]
    constants = dict(found for data in _all(graph, _CONSTANT) if (found := _constant(data)))
    return nodes, constants


def _node(data: memoryview) -> Node:
    texts = {number: [bytes(text).decode() for text in _all(data, number)] for number in (1, 2, 4)}
    numbers = {}
    for attribute in _all(data, 5):
        fields = dict(_fields(attribute))
        numbers[bytes(fields[1]).decode()] = int(fields.get(3, 0))
    return Node(texts[4][0], tuple(texts[1]), texts[2][0], numbers)


def _constant(data: memoryview) -> tuple[str, NDArray[Any]] | None:
    fields = dict(_fields(data))
    shape = [value for number, value in _fields(data) if number == 1]
    if fields.get(2) not in _TYPES or 9 not in fields or not all(isinstance(size, int) for size in shape):
        return None
    values = np.frombuffer(fields[9], _TYPES[fields[2]])
    return bytes(fields[8]).decode(), values.reshape(shape)


def _all(data: memoryview, number: int) -> list[memoryview]:
    return [value for found, value in _fields(data) if found == number]


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Numbers and values of the fields of a message (protobuf.dev/programming-guides/encoding)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        else:
            size, at = _varint(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], at)
            yield tag >> 3, data[at : at + size]
            at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] >= 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1
