"""The label term: what confirmed faults looked like, as a small addition to a family's own score."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from training.families.family import Evidence, Fitted, Floats
from training.families.trees import Tree, add_trees, quantised
from training.graph import Graph
from training.tail import Tail, fit_tail

CLIP = 15.0
FEWEST_FAULTY = 30
LEAST_TAIL = 0.1
"""In log-odds. Boosting can give all healthy readings it saw the same few odds, which would make any step a leap."""


class Logistic(NamedTuple):
    """Logistic regression of "faulty" on scaled evidence, small and capped: alone it is blind to new faults."""

    weight: Floats
    scale: Floats
    bias: float
    tail: Tail

    def nats(self, features: Floats) -> Floats:
        """min(nats / 4, 2) of the log-odds."""
        return np.asarray(np.minimum(self.alone(features) / 4, 2.0))

    def alone(self, features: Floats) -> Floats:
        """Nats of the log-odds, neither lessened nor capped: what it would be to trust in labels alone."""
        return self.tail.nats(np.clip(features / self.scale, -CLIP, CLIP) @ self.weight + self.bias)

    def add_to(self, graph: Graph, features: str) -> str:
        """The same in an ONNX graph."""
        scaled = graph.node("Div", features, graph.constant(self.scale))
        clipped = graph.node("Clip", scaled, graph.constant(-CLIP), graph.constant(CLIP))
        odds = graph.row_sum(graph.node("Mul", clipped, graph.constant(self.weight)))
        odds = graph.node("Add", odds, graph.constant(self.bias))
        quarter = graph.node("Mul", self.tail.add_to(graph, odds), graph.constant(0.25))
        return graph.node("Min", quarter, graph.constant(2.0))


class Boosting(NamedTuple):
    """Boosted trees of "faulty" (Friedman 2001, on histograms): they may bend, and so count half and up to 3 nats.

    `tail` is of the log-odds less `upper`, the 90 % point of the healthy ones, so that they keep their digits near it.
    """

    odds: Callable[[Floats], Floats]
    trees: list[Tree]
    upper: float
    tail: Tail

    def nats(self, features: Floats) -> Floats:
        """min(nats / 2, 3) of the log-odds."""
        return np.asarray(np.minimum(self.tail.nats(self.odds(features) - self.upper) / 2, 3.0))

    def add_to(self, graph: Graph, features: str) -> str:
        """The same in an ONNX graph."""
        half = graph.node("Mul", self.tail.add_to(graph, add_trees(graph, features, self.trees)), graph.constant(0.5))
        return graph.node("Min", half, graph.constant(3.0))


def with_label_term(graph: Graph, own: str, nats: Callable[[Floats], Floats], evidence: Evidence) -> Fitted:
    """The model: a family's own score, `own` in the graph and `nats` in float64, plus the label term that `evidence`
    asks for where its history has confirmed faults."""
    label = _fit(evidence)
    if label is None:
        graph.node("Identity", own, name="score")
    else:
        graph.node("Add", own, label.add_to(graph, "features"), name="score")
    onnx = graph.to_bytes(evidence.features.shape[1], evidence.signals, evidence.median)
    if label is None:
        return Fitted(onnx, nats)
    term = label
    remembers = isinstance(term, Boosting)
    return Fitted(onnx, lambda rows: nats(rows) + term.nats(rows), "validation" if remembers else "all")


def _fit(evidence: Evidence) -> Logistic | Boosting | None:
    if evidence.label_term == "none" or evidence.faulty.sum() < FEWEST_FAULTY:
        return None
    return _fit_boosting(evidence) if evidence.label_term == "boosting" else fit_logistic(evidence)


def fit_logistic(evidence: Evidence) -> Logistic:
    """The logistic label term of the readings that are healthy and in a confirmed fault."""
    healthy = evidence.features[evidence.healthy]
    scale = np.where(healthy.std(axis=0) > 0, healthy.std(axis=0), 1.0)
    chosen = evidence.healthy | evidence.faulty
    inputs = np.clip(evidence.features / scale, -CLIP, CLIP)
    fit = LogisticRegression(C=0.1, max_iter=1_000).fit(inputs[chosen], evidence.faulty[chosen])
    odds = inputs[evidence.healthy] @ fit.coef_[0] + fit.intercept_[0]
    return Logistic(fit.coef_[0], scale, float(fit.intercept_[0]), fit_tail(odds, "label term"))


def _fit_boosting(evidence: Evidence) -> Boosting:
    """100 trees of at most 4 leaves, at least 50 readings in each: larger ones remember the vehicles."""
    columns = evidence.columns
    chosen = evidence.healthy | evidence.faulty
    fit = HistGradientBoostingClassifier(
        max_leaf_nodes=4, min_samples_leaf=50, early_stopping=False, random_state=evidence.seed
    ).fit(evidence.features[chosen, :columns], evidence.faulty[chosen])

    def odds(features: Floats) -> Floats:
        return np.asarray(fit.decision_function(features[:, :columns]))

    healthy = odds(evidence.features[evidence.healthy])
    median, upper = np.quantile(healthy, [0.5, 0.9])
    beyond = healthy[healthy > upper] - upper
    excess = float(beyond.mean()) if len(beyond) else 0.0
    tail = Tail(-max(float(upper - median), LEAST_TAIL), 0.0, max(excess, LEAST_TAIL))
    trees = [_tree(predictor.nodes) for (predictor,) in fit._predictors]  # noqa: SLF001  # no public way to them
    base = float(np.ravel(fit._baseline_prediction)[0]) - float(upper)  # noqa: SLF001
    trees[0] = trees[0]._replace(value=quantised(trees[0].value + base))
    return Boosting(odds, trees, float(upper), tail)


def _tree(nodes: np.ndarray) -> Tree:
    """A tree of scikit-learn's, from its record array of nodes."""
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    value = quantised(nodes["value"].astype(np.float64))
    return Tree(left, right, nodes["feature_idx"].astype(np.int64), nodes["num_threshold"].astype(np.float64), value)
