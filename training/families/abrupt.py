"""The second channel of a model: the same distance on quick evidence, for faults that come from one reading to the
next."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from training.families.family import Evidence, Floats
from training.frame import shrunk
from training.graph import Graph, pad, padded
from training.tail import fit_tail


def precision_of(evidence: Evidence) -> Floats:
    """The inverse noise covariance, padded [w, w]."""
    inverse: Floats = np.linalg.inv(shrunk(evidence.noise)).astype(np.float64)
    return pad(inverse, padded(evidence.signals))


def add_abrupt(model: bytes, quick: Floats, evidence: Evidence) -> bytes:
    """`model`, whose features are those of `evidence`, with the columns of quick evidence behind them, and the outputs
    `score_abrupt` and `contribution_abrupt` from these.

    `quick` [n, w] is what those columns are in the readings of `evidence`; its distance is taken under the noise of
    single readings, as that of the family `distance` is.
    """
    precision = precision_of(evidence)
    tail = fit_tail(_length(quick[evidence.healthy], precision), "quick distance")
    main = evidence.features.shape[1]
    graph = Graph("quick_")
    own = graph.columns("features", 0, main)
    second = graph.columns("features", main, main + precision.shape[0])
    parts = graph.node("Mul", second, graph.node("MatMul", second, graph.constant(precision)))
    graph.shares(parts, evidence.signals, name="contribution_abrupt")
    length = graph.node("Sqrt", graph.node("Relu", graph.row_sum(parts)))
    graph.node("Identity", tail.add_to(graph, length), name="score_abrupt")
    return graph.put_before(onnx.load_model_from_string(model), own, main + precision.shape[0], evidence.signals)


def _length(quick: Floats, precision: Floats) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", quick, precision, quick), 0.0)))
