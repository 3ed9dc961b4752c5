"""Principal components: how far within them, and how far outside."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from training.families.family import Evidence, Fitted, Floats
from training.families.label import with_label_term
from training.graph import Graph, pad
from training.tail import fit_tail


def fit_pca(evidence: Evidence) -> Fitted:
    """Hotelling's T2 within the principal components of 90 % of the variance and Q (SPE) outside, the larger counts.

    Jackson and Mudholkar 1979; both are taken as lengths, in nats of their own healthy tails. Wide features are first
    scaled to their healthy spread: that of a mean over many readings is far smaller than that of a deviation.
    """
    width = evidence.features.shape[1]
    healthy = evidence.features[evidence.healthy]
    scale = evidence.scale()[1] if evidence.blocks > 1 else np.ones(evidence.columns)
    mean, forms = _principal_forms(healthy[:, : evidence.columns] / scale)
    mean, forms = mean * scale, [form / np.outer(scale, scale) for form in forms]
    mean, forms = pad(mean, width), [pad(form, width) for form in forms]

    def lengths(features: Floats) -> list[Floats]:
        centred = features - mean
        return [np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", centred, form, centred), 0.0)) for form in forms]

    tails = [fit_tail(values, name) for values, name in zip(lengths(healthy), ("T2", "Q"), strict=False)]
    graph = Graph()
    centred = graph.node("Sub", "features", graph.constant(mean))
    nats, parts = [], []
    for form, tail in zip(forms, tails, strict=True):
        part = graph.node("Mul", centred, graph.node("MatMul", centred, graph.constant(form)))
        total = graph.node("Relu", graph.row_sum(part))
        nats.append(tail.add_to(graph, graph.node("Sqrt", total)))
        parts.append(graph.node("Div", part, graph.constant(tail.upper**2)))
    graph.shares(graph.node("Sum", *parts), evidence.signals, evidence.blocks)

    def score(features: Floats) -> Floats:
        return np.asarray(
            np.max([tail.nats(values) for tail, values in zip(tails, lengths(features), strict=True)], axis=0)
        )

    return with_label_term(graph, graph.node("Max", *nats), score, evidence)


def _principal_forms(healthy: Floats) -> tuple[Floats, list[Floats]]:
    """Mean, then the quadratic forms of T2 and, where a component is left for it, of Q."""
    columns = healthy.shape[1]
    fit = PCA(svd_solver="full").fit(healthy)
    count = int(np.searchsorted(np.cumsum(fit.explained_variance_ratio_), 0.9)) + 1
    count = max(1, min(count, columns - 1))
    axes, variance = fit.components_[:count], np.maximum(fit.explained_variance_[:count], 1e-12)
    inside = (axes.T / variance) @ axes
    outside = np.eye(columns) - axes.T @ axes
    return np.asarray(fit.mean_), [inside, outside] if columns > 1 else [inside]
