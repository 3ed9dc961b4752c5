"""What an ONNX file says, as far as a score can be made a program of it: nodes and constants (onnx.proto).

The file was found harmless and was loaded by ONNX Runtime before; `onnx` takes a while to load and is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_TYPES = {1: "<f4", 7: "<i8", 11: "<f8"}
_GRAPH, _NODE, _CONSTANT = 7, 1, 5


class Node(NamedTuple):
    """An operator, the names of its inputs and of its first output; its attributes, read when they are asked for."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    fields: dict[str, memoryview]

    def number(self, name: str, default: int) -> int:
        """An attribute that is a whole number."""
        return int(dict(self._told(name)).get(3, 0)) if name in self.fields else default

    def numbers(self, name: str) -> NDArray[np.int64]:
        """One that is a list of whole numbers, empty where it is not there."""
        found: list[int] = []
        for field, value in self._told(name):
            if field == 8:
                found += [value] if isinstance(value, int) else _packed(value)
        return np.array(found, np.uint64).astype(np.int64)

    def words(self, name: str) -> list[bytes]:
        """One that is a text or a list of texts, empty where it is not there."""
        return [bytes(value) for field, value in self._told(name) if field in (4, 9)]

    def tensor(self, name: str) -> NDArray[Any] | None:
        """One that is an array, None where it is not there or of a type that `read` leaves out."""
        constants = [_constant(value) for field, value in self._told(name) if field == 5]
        return constants[0][1] if constants and constants[0] is not None else None

    def _told(self, name: str) -> Iterator[tuple[int, Any]]:
        return _fields(self.fields.get(name, memoryview(b"")))


def read(model: bytes) -> tuple[list[Node], dict[str, NDArray[Any]]]:
    """Nodes in the order in which they run, and constants of floats and int64 with their bytes in one piece."""
    graph = _all(memoryview(model), _GRAPH)[0]
    nodes = [_node(data) for data in _all(graph, _NODE)]
    constants = dict(found for data in _all(graph, _CONSTANT) if (found := _constant(data)))
    return nodes, constants


def _node(data: memoryview) -> Node:
    texts = {number: [bytes(text).decode() for text in _all(data, number)] for number in (1, 2, 4)}
    attributes = {bytes(_all(attribute, 1)[0]).decode(): attribute for attribute in _all(data, 5)}
    return Node(texts[4][0], tuple(texts[1]), texts[2][0], attributes)


def _constant(data: memoryview) -> tuple[str, NDArray[Any]] | None:
    fields = dict(_fields(data))
    shape = [value for number, value in _fields(data) if number == 1]
    if fields.get(2) not in _TYPES or 9 not in fields or not all(isinstance(size, int) for size in shape):
        return None
    values = np.frombuffer(fields[9], _TYPES[fields[2]])
    return bytes(fields.get(8, b"")).decode(), values.reshape(shape)


def _all(data: memoryview, number: int) -> list[memoryview]:
    return [value for found, value in _fields(data) if found == number]


def _packed(data: memoryview) -> list[int]:
    """Whole numbers one after the other."""
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


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
