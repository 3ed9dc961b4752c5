"""What a published `distance` or `pca` model computes, read out of its ONNX graph, for one row by NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from training.tail import Tail

Floats = NDArray[np.float64]
LN2, LN10 = math.log(2), math.log(10)


def score_of(model: bytes, columns: int) -> Callable[[Floats], float]:
    """float64[columns] to nats: the largest of the tails of its quadratic forms.

    Two forms are taken as the lengths of two projections: as many multiplications as there have to be.
    """
    graph = onnx.load_model_from_string(model).graph
    constants = {item.name: numpy_helper.to_array(item).astype(np.float64) for item in graph.initializer}
    forms = [constants[node.input[1]] for node in graph.node if node.op_type == "MatMul"]
    forms = [form[:columns, :columns] for form in forms if form.shape[0] == form.shape[1]]
    scalar = [_scalar(tail) for tail in _tails(graph, constants)]
    if len(forms) == 1:
        form, nats = forms[0], scalar[0]
        return lambda row: nats(math.sqrt(max(float(row @ form @ row), 0.0)))
    mean = next(
        (constants[n.input[1]][:columns] for n in graph.node if n.op_type == "Sub" and n.input[0] == "features"),
        np.zeros(columns),
    )
    return _pca(mean, forms, scalar)


def _pca(mean: Floats, forms: list[Floats], scalar: list[Callable[[float], float]]) -> Callable[[Floats], float]:
    """Both forms by one product: the squares of its first columns sum up to the one, those of the rest to the other."""
    factors = [_factor(form) for form in forms]
    both, first = np.ascontiguousarray(np.hstack(factors)), factors[0].shape[1]
    within, outside = scalar

    def score(row: Floats) -> float:
        part = (row - mean) @ both
        inside, rest = part[:first], part[first:]
        return max(within(math.sqrt(float(inside @ inside))), outside(math.sqrt(float(rest @ rest))))

    return score


def _factor(form: Floats) -> Floats:
    """F [columns, rank] with form = F F'; that the rank is cut right shows in the agreement of the scores."""
    size, axis = np.linalg.eigh(form)
    kept = size > 1e-5 * size.max()
    return np.asarray(axis[:, kept] * np.sqrt(size[kept]))


def _tails(graph: Any, constants: dict[str, Floats]) -> list[Tail]:
    """The tail of each comparison in the graph: above `upper` exponential, below it straight from the median."""
    made = {output: node for node in graph.node for output in node.output}
    found = []
    for node in graph.node:
        if node.op_type == "Where":
            value, upper = made[node.input[0]].input[:2]
            less = [n for n in graph.node if n.op_type == "Sub" and n.input[0] == value]
            over = next(n for n in less if float(constants[n.input[1]]) == float(constants[upper]))
            median = next(n for n in less if n is not over).input[1]
            excess = next(n for n in graph.node if n.op_type == "Div" and n.input[0] == over.output[0]).input[1]
            found.append(Tail(*(float(constants[name]) for name in (median, upper, excess))))
    return found


def _scalar(tail: Tail) -> Callable[[float], float]:
    slope = (LN10 - LN2) / (tail.upper - tail.median)

    def nats(value: float) -> float:
        if value > tail.upper:
            return LN10 + (value - tail.upper) / tail.excess
        return max(LN2 + (value - tail.median) * slope, 0.0)

    return nats
