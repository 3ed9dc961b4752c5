"""An ONNX graph's score as a program of `anomaly.engine.program`, where it is made of a few operators only.

A call of ONNX Runtime has its price, whatever the batch. It stays the one that says what a graph means: the program's
scores are the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.detectors.onnx_file import Node, read
from anomaly.detectors.trees import joined, trees_of
from anomaly.engine import program as p
from anomaly.engine.program import ROWS, STEP, Program, Trees

MOST_FACTORS = 64
"""The most terms of a sum in a matrix product: beyond, ONNX Runtime's is faster, and loses less to rounding."""
_PLAIN = {"Add": p.ADD, "Sum": p.ADD, "Sub": p.SUB, "Mul": p.MUL, "Div": p.DIV, "Max": p.MAX, "Min": p.MIN}


class _Unknown(Exception):
    """Something that a program has no operation for."""


class _Value(NamedTuple):
    """Where a value begins in the room, and its columns: 0 for what has one number a row and no column axis."""

    place: int
    columns: int

    @property
    def rows(self) -> int:
        """Its rows of ROWS numbers in the room."""
        return max(self.columns, 1)


def program_of(model: bytes, output: str, width: int) -> Program | None:
    """The program for an output that has one number a row; None where the graph has more than it knows."""
    nodes, constants = read(model)
    try:
        return _Builder({node.output: node for node in nodes}, constants, width).program(output)
    except _Unknown:
        return None


class _Builder:
    """Follows a graph from an output back to the features, each node once."""

    def __init__(self, nodes: Mapping[str, Node], constants: Mapping[str, NDArray[Any]], width: int) -> None:
        self._nodes, self._constants, self._width = nodes, constants, width
        self._known = {"features": _Value(0, width)}
        self._room: list[NDArray[np.float32]] = [np.zeros(width * ROWS, np.float32)]
        self._end = width * ROWS
        self._steps: list[list[int]] = []
        self._trees: list[Trees] = []

    def program(self, output: str) -> Program:
        """The program for `output`."""
        result = self._value(output)
        steps = np.array(self._steps, np.int64).reshape(-1, STEP)
        return Program(steps, np.concatenate(self._room), joined(self._trees), self._width, result.place)

    def _put(self, values: NDArray[np.float32]) -> int:
        place = self._end
        self._room.append(np.ravel(values))
        self._end += values.size
        return place

    def _step(self, operation: int, columns: int, operands: list[int], inner: int = 0) -> _Value:
        to = self._put(np.zeros(max(columns, 1) * ROWS, np.float32))
        padded = (operands + [0] * 4)[:4]
        self._steps.append([operation, to, *padded, max(columns, 1), inner])
        return _Value(to, columns)

    def _value(self, name: str) -> _Value:
        if name not in self._known:
            if name not in self._nodes:
                raise _Unknown(name)
            self._known[name] = self._made(self._nodes[name])
        return self._known[name]

    def _made(self, node: Node) -> _Value:
        inputs = node.inputs
        if node.operator in _PLAIN and len(inputs) == 2:
            first, second = self._pair(*inputs)
            return self._step(_PLAIN[node.operator], first.columns, [first.place, second.place])
        made: dict[str, Callable[..., _Value]] = {
            "Identity": self._value,
            "MatMul": self._product,
            "Sqrt": partial(self._same, p.SQRT),
            "Tanh": partial(self._same, p.TANH),
            "Exp": partial(self._same, p.EXP),
            "Relu": self._positive,
            "Slice": self._columns,
            "Clip": self._clipped,
            "Where": self._choice,
        }
        if node.operator == "ReduceSum":
            return self._sum(node)
        if node.operator == "TreeEnsembleRegressor":
            return self._forest(node)
        if node.operator not in made:
            raise _Unknown(node.operator)
        return made[node.operator](*inputs)

    def _same(self, operation: int, name: str) -> _Value:
        """An operation on each number alone."""
        value = self._value(name)
        return self._step(operation, value.columns, [value.place])

    def _positive(self, name: str) -> _Value:
        value = self._value(name)
        zeros = self._put(np.zeros(value.rows * ROWS, np.float32))
        return self._step(p.MAX, value.columns, [value.place, zeros])

    def _product(self, left: str, right: str) -> _Value:
        """A matrix product with constant weights; trailing rows of zeros are left out."""
        value, weights = self._value(left), self._weights(right)
        if len(weights) != value.columns:
            raise _Unknown("MatMul")
        return self._times(p.MATMUL, value, weights[: _used(weights)])

    def _times(self, operation: int, value: _Value, weights: NDArray[np.float32]) -> _Value:
        """The matrix product step of `value` and `weights`, which get columns of zeros up to a multiple of 4."""
        used, columns = weights.shape
        wide = np.pad(weights, ((0, 0), (0, -columns % 4)))
        made = self._step(operation, wide.shape[1], [value.place, self._put(p.packed(wide))], used)
        return _Value(made.place, columns)

    def _weights(self, name: str) -> NDArray[np.float32]:
        weights = self._constants.get(name)
        if weights is None or weights.ndim != 2 or weights.dtype != np.float32 or len(weights) % 4:
            raise _Unknown(name)
        return weights

    def _sum(self, node: Node) -> _Value:
        """The sum over the columns of each row."""
        axes = self._constants.get(node.inputs[1])
        if axes is None or axes.tolist() != [1]:
            raise _Unknown("ReduceSum")
        value = self._form(node.inputs[0]) or self._value(node.inputs[0])
        if value.columns == 0:
            raise _Unknown("ReduceSum")
        kept = 1 if node.number("keepdims", 1) else 0
        return self._step(p.SUM, kept, [value.place], value.columns)

    def _forest(self, node: Node) -> _Value:
        """The sum over trees that look at the features, as they are or as float64."""
        cast = self._nodes.get(node.inputs[0])
        source = cast.inputs[0] if cast is not None and cast.operator == "Cast" else node.inputs[0]
        trees = trees_of(node, self._width)
        if source != "features" or trees is None:
            raise _Unknown("TreeEnsembleRegressor")
        first = sum(len(part.root) for part in self._trees)
        self._trees.append(trees)
        return self._step(p.TREES, 1, [first], len(trees.root))

    def _form(self, name: str) -> _Value | None:
        """What sums to a quadratic form x' W x: x times x' W, of which each pair of columns is taken once; None if
        `name` is something else."""
        times = self._nodes.get(name)
        product = self._nodes.get(times.inputs[1]) if times is not None and times.operator == "Mul" else None
        if times is None or product is None or product.operator != "MatMul" or product.inputs[0] != times.inputs[0]:
            return None
        value, weights = self._value(times.inputs[0]), self._weights(product.inputs[1]).astype(np.float64)
        if weights.shape != (value.columns, value.columns):
            return None
        used = _used(np.abs(weights) + np.abs(weights.T))
        pairs = np.triu(weights + np.triu(weights.T, 1))[:used, :used].astype(np.float32)
        once = self._times(p.TRIANGLE, value, pairs)
        return self._step(p.MUL, used, [value.place, once.place])

    def _columns(self, name: str, *numbers: str) -> _Value:
        """Some columns, which lie where they are."""
        value = self._value(name)
        start, stop, axis, step = (int(self._number(number)) for number in (*numbers, "")[:4])
        if axis != 1 or step != 1 or not 0 <= start < stop <= value.columns:
            raise _Unknown("Slice")
        return _Value(value.place + start * ROWS, stop - start)

    def _number(self, name: str) -> Any:
        """A constant of one number; 1 for an input that is left out."""
        if not name:
            return 1
        constant = self._constants.get(name)
        if constant is None or constant.size != 1:
            raise _Unknown(name)
        return constant.item()

    def _clipped(self, name: str, least: str, most: str) -> _Value:
        """Between two constants."""
        value = self._value(name)
        low, high = self._spelled(least, value.columns), self._spelled(most, value.columns)
        above = self._step(p.MAX, value.columns, [value.place, low.place])
        return self._step(p.MIN, value.columns, [above.place, high.place])

    def _choice(self, condition: str, left: str, right: str) -> _Value:
        """Where one thing is greater than another: this, else that."""
        asked = self._nodes.get(condition)
        if asked is None or asked.operator != "Greater":
            raise _Unknown("Where")
        greater, smaller = self._pair(*asked.inputs)
        first, second = self._pair(left, right)
        if not greater.columns == first.columns:
            raise _Unknown("Where")
        return self._step(p.CHOOSE, first.columns, [greater.place, smaller.place, first.place, second.place])

    def _pair(self, left: str, right: str) -> tuple[_Value, _Value]:
        """Two values with the same columns; a constant is spelled out for each row of a block."""
        first = None if left in self._constants else self._value(left)
        second = None if right in self._constants else self._value(right)
        columns = next((value.columns for value in (first, second) if value is not None), None)
        if columns is None:
            raise _Unknown("constants")
        first = first or self._spelled(left, columns)
        second = second or self._spelled(right, columns)
        if first.columns != second.columns:
            raise _Unknown("shapes")
        return first, second

    def _spelled(self, name: str, columns: int) -> _Value:
        """A constant, for each row of a block."""
        constant, size = self._constants.get(name), max(columns, 1)
        if constant is None or constant.dtype != np.float32 or constant.ndim > 1 or constant.size not in (1, size):
            raise _Unknown(name)
        every = np.broadcast_to(constant.reshape(-1), size)
        return _Value(self._put(np.repeat(every, ROWS)), columns)


def _used(weights: NDArray[np.floating[Any]]) -> int:
    """How many rows there are up to the last one that is not 0, as a multiple of 4; not too many."""
    last = int(np.flatnonzero(weights.any(axis=1)).max(initial=0))
    if last >= MOST_FACTORS:
        raise _Unknown("MatMul")
    return 4 * (last // 4 + 1)
