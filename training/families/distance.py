"""The length of the evidence, where it is long for a vehicle that nothing is wrong with."""

from __future__ import annotations

import numpy as np

from anomaly.errors import ConfigError
from training.families.family import Evidence, Fitted, Floats
from training.families.label import with_label_term
from training.frame import shrunk
from training.graph import Graph, pad
from training.tail import fit_tail


def fit_distance(evidence: Evidence) -> Fitted:
    """Length of the evidence under the covariance of `usual`, sqrt(e' C^-1 e), plus the label term.

    Raises ConfigError for wide features, whose blocks are not as noisy as single readings are.
    """
    if evidence.blocks > 1:
        raise ConfigError('[model] family = `distance` takes no wide features; write features = "evidence"')
    precision = precision_of(usual(evidence), evidence.features.shape[1])
    tail = fit_tail(length(evidence.features[evidence.healthy], precision), "distance")
    graph = Graph()
    own = tail.add_to(graph, add_length(graph, "features", precision, evidence.signals, "contribution"))
    return with_label_term(graph, own, lambda features: tail.nats(length(features, precision)), evidence)


def usual(evidence: Evidence) -> Floats:
    """The covariance C [d, d] of evidence where nothing is wrong: three times what the noise of single readings makes
    of it, N w / (2 - w), and how the vehicles without any fault moved beside their own normal.

    N comes from successive differences, not from the healthy readings of vehicles that failed later: these hold the
    beginning of wear along the very direction of the fault. How the others moved, with season, load or new software,
    is what no alarm is wanted for, and a longer past knows more of it. Evidence beyond the 90 % point of its length
    under N counts as if it lay there, so that faults which nobody declared weigh little.
    """
    noise = 3.0 * evidence.weight / (2.0 - evidence.weight) * evidence.noise
    rows = evidence.features[evidence.faultless][:, : evidence.signals]
    if not len(rows):
        return noise
    far = length(rows, precision_of(noise, evidence.signals))
    most = np.quantile(far, 0.9)
    rows = rows * np.minimum(1.0, most / np.maximum(far, 1e-12))[:, None]
    return np.asarray(noise + rows.T @ rows / len(rows))


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
