"""What a narrow neural network cannot reproduce of the evidence."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from anomaly.errors import ConfigError
from training.families.family import Evidence, Fitted, Floats
from training.families.label import with_label_term
from training.graph import Graph, pad, padded
from training.tail import fit_tail

MOST_ROWS = 20_000
MOST_EPOCHS = 100
PENALTY = 10.0
"""On the weights; a network left free learns the beginning of wear, which healthy readings hold, as healthy."""


def fit_autoencoder(evidence: Evidence) -> Fitted:
    """Length of what the network misses of the evidence, each column over its healthy miss, plus the label term.

    Columns are scaled to their healthy spread; layers 4k, k, 4k with tanh between, k = sqrt(columns) / 2, so that
    60 columns give 16-4-16 (Hinton and Salakhutdinov 2006, shallow). tanh bounds what the network can follow:
    evidence far outside the healthy is missed whole. Raises ConfigError for a single signal.
    """
    width, columns = evidence.features.shape[1], evidence.columns
    healthy = evidence.features[evidence.healthy]
    mean, scale = evidence.scale()
    network = _fit_network((healthy[:, :columns] - mean) / scale, evidence.seed)

    def missed(features: Floats) -> Floats:
        inputs = (features[:, :columns] - mean) / scale
        return np.asarray(inputs - network.predict(inputs).reshape(inputs.shape))

    usual = np.sqrt(np.mean(missed(healthy) ** 2, axis=0))
    usual = np.where(usual > 0, usual, 1.0)

    def length(features: Floats) -> Floats:
        return np.asarray(np.sqrt(np.sum((missed(features) / usual) ** 2, axis=1)))

    tail = fit_tail(length(healthy), "reconstruction error")
    graph = Graph()
    inputs = "features"
    if mean.any():
        inputs = graph.node("Sub", inputs, graph.constant(pad(mean, width)))
    inputs = graph.node("Mul", inputs, graph.constant(pad(1 / scale, width)))
    rest = graph.node("Sub", inputs, _add_network(graph, inputs, network, width))
    rest = graph.node("Mul", rest, graph.constant(pad(1 / usual, width)))
    squares = graph.node("Mul", rest, rest)
    graph.shares(squares, evidence.signals, evidence.blocks)
    own = tail.add_to(graph, graph.node("Sqrt", graph.row_sum(squares)))
    return with_label_term(graph, own, lambda features: tail.nats(length(features)), evidence)


def layers(columns: int) -> tuple[int, int, int]:
    """Widths of the hidden layers.

    >>> layers(60), layers(10)
    ((16, 4, 16), (8, 2, 8))
    """
    if columns < 2:
        raise ConfigError("[model] family = `autoencoder` needs at least 2 signals; for one, take `distance`")
    narrow = min(columns - 1, max(1, round(np.sqrt(columns) / 2)))
    return 4 * narrow, narrow, 4 * narrow


def _fit_network(inputs: Floats, seed: int) -> MLPRegressor:
    """The network on at most 20,000 readings; it may stop early, and need not have converged to be of use."""
    network = MLPRegressor(
        hidden_layer_sizes=layers(inputs.shape[1]),
        activation="tanh",
        alpha=PENALTY,
        max_iter=MOST_EPOCHS,
        random_state=seed,
    )
    if len(inputs) > MOST_ROWS:
        inputs = inputs[np.random.default_rng(seed).choice(len(inputs), MOST_ROWS, replace=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(inputs, inputs)


def _add_network(graph: Graph, inputs: str, network: MLPRegressor, width: int) -> str:
    """The network in an ONNX graph: hidden layers padded by silent neurons, ends to `width`."""
    sizes = [width, *(padded(len(bias)) for bias in network.intercepts_[:-1]), width]
    value = inputs
    for layer, (rows, columns) in enumerate(pairwise(sizes)):
        weight = np.zeros((rows, columns))
        fitted = network.coefs_[layer]
        weight[: fitted.shape[0], : fitted.shape[1]] = fitted
        bias = pad(network.intercepts_[layer], columns)
        value = graph.node("Add", graph.node("MatMul", value, graph.constant(weight)), graph.constant(bias))
        if layer < len(sizes) - 2:
            value = graph.node("Tanh", value)
    return value
