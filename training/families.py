"""The families of models: each turns healthy evidence, and labels where there are some, into an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from training.graph import Graph, pad
from training.tail import Tail, fit_tail

Floats = NDArray[np.float64]
CLIP = 15.0


class Evidence(NamedTuple):
    """What a family is fitted on: `features` [n, width] of training vehicles past burn-in, `healthy` [n],
    `late` [n] (unknown or fault, of vehicles with a confirmed fault), `noise` [d, d] the covariance of single
    readings, `signals` d."""

    features: Floats
    healthy: NDArray[np.bool_]
    late: NDArray[np.bool_]
    noise: Floats
    signals: int


class Fitted(NamedTuple):
    """A fitted model: its ONNX bytes, and the estimator in float64 that they must agree with."""

    onnx: bytes
    score: Callable[[Floats], Floats]


class LabelTerm(NamedTuple):
    """Logistic regression of "late" on scaled evidence, small and capped: alone it is blind to new faults."""

    weight: Floats
    scale: Floats
    bias: float
    tail: Tail

    def nats(self, features: Floats) -> Floats:
        """min(nats / 4, 2) of the log-odds."""
        odds = np.clip(features / self.scale, -CLIP, CLIP) @ self.weight + self.bias
        return np.asarray(np.minimum(self.tail.nats(odds) / 4, 2.0))

    def add_to(self, graph: Graph, features: str) -> str:
        """The same in an ONNX graph."""
        scaled = graph.node("Div", features, graph.constant(self.scale))
        clipped = graph.node("Clip", scaled, graph.constant(-CLIP), graph.constant(CLIP))
        odds = graph.row_sum(graph.node("Mul", clipped, graph.constant(self.weight)))
        odds = graph.node("Add", odds, graph.constant(self.bias))
        quarter = graph.node("Mul", self.tail.add_to(graph, odds), graph.constant(0.25))
        return graph.node("Min", quarter, graph.constant(2.0))


def fit_label_term(evidence: Evidence) -> LabelTerm | None:
    """The label term, None where the history has no confirmed fault."""
    if evidence.late.sum() < 30:
        return None
    healthy = evidence.features[evidence.healthy]
    scale = np.where(healthy.std(axis=0) > 0, healthy.std(axis=0), 1.0)
    chosen = evidence.healthy | evidence.late
    inputs = np.clip(evidence.features / scale, -CLIP, CLIP)
    fit = LogisticRegression(C=0.1, max_iter=1_000).fit(inputs[chosen], evidence.late[chosen])
    odds = inputs[evidence.healthy] @ fit.coef_[0] + fit.intercept_[0]
    return LabelTerm(fit.coef_[0], scale, float(fit.intercept_[0]), fit_tail(odds, "label term"))


def fit_distance(evidence: Evidence) -> Fitted:
    """Length of the evidence under the noise covariance, sqrt(e' C^-1 e), plus the label term.

    C comes from successive differences (`noise`), not from the healthy readings themselves, which already hold the
    beginning of wear along the very direction of the fault.
    """
    width = evidence.features.shape[1]
    inverse: Floats = np.linalg.inv(_shrunk(evidence.noise)).astype(np.float64)
    label = fit_label_term(evidence)
    precision = pad(inverse, width)

    def length(features: Floats) -> Floats:
        return np.asarray(np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", features, precision, features), 0.0)))

    tail = fit_tail(length(evidence.features[evidence.healthy]), "distance")
    graph = Graph()
    parts = graph.node("Mul", "features", graph.node("MatMul", "features", graph.constant(precision)))
    graph.shares(parts, evidence.signals)
    own = tail.add_to(graph, graph.node("Sqrt", graph.node("Relu", graph.row_sum(parts))))
    _finish(graph, own, label)
    return Fitted(
        graph.to_bytes(width, evidence.signals),
        lambda features: tail.nats(length(features)) + (label.nats(features) if label else 0.0),
    )


def fit_pca(evidence: Evidence) -> Fitted:
    """Hotelling's T2 within the principal components of 90 % of the variance and Q (SPE) outside, the larger counts.

    Jackson and Mudholkar 1979; both are taken as lengths, in nats of their own healthy tails.
    """
    width, signals = evidence.features.shape[1], evidence.signals
    healthy = evidence.features[evidence.healthy]
    mean, forms = _principal_forms(healthy[:, :signals])
    mean, forms = pad(mean, width), [pad(form, width) for form in forms]

    def lengths(features: Floats) -> list[Floats]:
        centred = features - mean
        return [np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", centred, form, centred), 0.0)) for form in forms]

    tails = [fit_tail(values, name) for values, name in zip(lengths(healthy), ("T2", "Q"), strict=False)]
    label = fit_label_term(evidence)
    graph = Graph()
    centred = graph.node("Sub", "features", graph.constant(mean))
    nats, parts = [], []
    for form, tail in zip(forms, tails, strict=True):
        part = graph.node("Mul", centred, graph.node("MatMul", centred, graph.constant(form)))
        total = graph.node("Relu", graph.row_sum(part))
        nats.append(tail.add_to(graph, graph.node("Sqrt", total)))
        parts.append(graph.node("Div", part, graph.constant(tail.upper**2)))
    graph.shares(graph.node("Sum", *parts), signals)
    _finish(graph, graph.node("Max", *nats), label)

    def score(features: Floats) -> Floats:
        own = np.max([tail.nats(values) for tail, values in zip(tails, lengths(features), strict=True)], axis=0)
        return np.asarray(own + (label.nats(features) if label else 0.0))

    return Fitted(graph.to_bytes(width, signals), score)


def _principal_forms(healthy: Floats) -> tuple[Floats, list[Floats]]:
    """Mean, then the quadratic forms of T2 and, where a component is left for it, of Q."""
    signals = healthy.shape[1]
    fit = PCA(svd_solver="full").fit(healthy)
    count = int(np.searchsorted(np.cumsum(fit.explained_variance_ratio_), 0.9)) + 1
    count = max(1, min(count, signals - 1))
    axes, variance = fit.components_[:count], np.maximum(fit.explained_variance_[:count], 1e-12)
    inside = (axes.T / variance) @ axes
    outside = np.eye(signals) - axes.T @ axes
    return np.asarray(fit.mean_), [inside, outside] if signals > 1 else [inside]


FAMILIES: dict[str, Callable[[Evidence], Fitted]] = {"distance": fit_distance, "pca": fit_pca}


def _finish(graph: Graph, own: str, label: LabelTerm | None) -> None:
    if label:
        graph.node("Add", own, label.add_to(graph, "features"), name="score")
    else:
        graph.node("Identity", own, name="score")


def _shrunk(covariance: Floats) -> Floats:
    """0.95 C + 0.05 diag(C) + 1e-6 I; a signal without any noise counts as if it had its healthy spread."""
    diagonal = np.diag(covariance)
    kept = covariance + np.diag(np.where(diagonal > 1e-9, 0.0, 1.0))
    return np.asarray(0.95 * kept + 0.05 * np.diag(np.diag(kept)) + 1e-6 * np.eye(len(kept)))
