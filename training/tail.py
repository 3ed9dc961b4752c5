"""From any statistic to nats: minus the logarithm of its tail probability among healthy readings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.errors import GateError
from training.graph import Graph

Floats = NDArray[np.float64]


class Tail(NamedTuple):
    """-ln p: exponential beyond the 90 % point `upper` with mean excess `excess`, straight from the median below it.

    A peak-over-threshold model with shape 0 (Pickands 1975); only its far side matters near a threshold.
    """

    median: float
    upper: float
    excess: float

    def nats(self, values: Floats) -> Floats:
        """Statistic to nats, >= 0."""
        slope = (np.log(10) - np.log(2)) / (self.upper - self.median)
        below = np.maximum(np.log(2) + (values - self.median) * slope, 0.0)
        return np.asarray(np.where(values > self.upper, np.log(10) + (values - self.upper) / self.excess, below))

    def add_to(self, graph: Graph, value: str) -> str:
        """The same in an ONNX graph."""
        slope = (np.log(10) - np.log(2)) / (self.upper - self.median)
        over = graph.node("Sub", value, graph.constant(self.upper))
        far = graph.node("Add", graph.node("Div", over, graph.constant(self.excess)), graph.constant(np.log(10)))
        rise = graph.node("Mul", graph.node("Sub", value, graph.constant(self.median)), graph.constant(slope))
        near = graph.node("Relu", graph.node("Add", rise, graph.constant(np.log(2))))
        return graph.node("Where", graph.node("Greater", value, graph.constant(self.upper)), far, near)


def fit_tail(values: Floats, what: str) -> Tail:
    """Fit to the healthy values of a statistic; GateError where they do not vary."""
    median, upper = np.quantile(values, [0.5, 0.9])
    beyond = values[values > upper]
    if upper <= median or not len(beyond):
        raise GateError(f"the {what} of healthy readings does not vary: no threshold can be set; give more history")
    return Tail(float(median), float(upper), float(np.mean(beyond - upper)))
