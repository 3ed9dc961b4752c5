"""The length of the evidence under the noise of single readings."""

from __future__ import annotations

import numpy as np

from anomaly.errors import ConfigError
from training.families.family import Evidence, Fitted, Floats
from training.families.label import with_label_term
from training.frame import shrunk
from training.graph import Graph, pad
from training.tail import fit_tail


def fit_distance(evidence: Evidence) -> Fitted:
    """Length of the evidence under the noise covariance, sqrt(e' C^-1 e), plus the label term.

    C comes from successive differences (`noise`), not from the healthy readings themselves, which already hold the
    beginning of wear along the very direction of the fault. Raises ConfigError for wide features, whose blocks are not
    as noisy as single readings are.
    """
    if evidence.blocks > 1:
        raise ConfigError('[model] family = `distance` takes no wide features; write features = "evidence"')
    precision = precision_of(evidence.noise, evidence.features.shape[1])
    tail = fit_tail(length(evidence.features[evidence.healthy], precision), "distance")
    graph = Graph()
    own = tail.add_to(graph, add_length(graph, "features", precision, evidence.signals, "contribution"))
    return with_label_term(graph, own, lambda features: tail.nats(length(features, precision)), evidence)


def precision_of(noise: Floats, width: int) -> Floats:
    """The inverse C^-1 of the noise covariance, with zeros up to [width, width]."""
    inverse: Floats = np.linalg.inv(shrunk(noise)).astype(np.float64)
    return pad(inverse, width)


def length(evidence: Floats, precision: Floats) -> Floats:
    """sqrt(e' C^-1 e) of rows e [n, width]."""
    return np.asarray(np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", evidence, precision, evidence), 0.0)))


def add_length(graph: Graph, evidence: str, precision: Floats, signals: int, output: str) -> str:
    """The same in an ONNX graph, and what each signal has of it as the graph's `output`."""
    parts = graph.node("Mul", evidence, graph.node("MatMul", evidence, graph.constant(precision)))
    graph.shares(parts, signals, name=output)
    return graph.node("Sqrt", graph.node("Relu", graph.row_sum(parts)))
