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
    width = evidence.features.shape[1]
    inverse: Floats = np.linalg.inv(shrunk(evidence.noise)).astype(np.float64)
    precision = pad(inverse, width)

    def length(features: Floats) -> Floats:
        return np.asarray(np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", features, precision, features), 0.0)))

    tail = fit_tail(length(evidence.features[evidence.healthy]), "distance")
    graph = Graph()
    parts = graph.node("Mul", "features", graph.node("MatMul", "features", graph.constant(precision)))
    graph.shares(parts, evidence.signals)
    own = tail.add_to(graph, graph.node("Sqrt", graph.node("Relu", graph.row_sum(parts))))
    return with_label_term(graph, own, lambda features: tail.nats(length(features)), evidence)
