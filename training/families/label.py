"""The label term: what confirmed faults looked like, as a small addition to a family's own score."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from training.families.family import Evidence, Floats
from training.graph import Graph
from training.tail import Tail, fit_tail

CLIP = 15.0


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


def add_score(graph: Graph, own: str, label: LabelTerm | None) -> None:
    """Output `score`: the family's own nats, plus the label term where there is one."""
    if label:
        graph.node("Add", own, label.add_to(graph, "features"), name="score")
    else:
        graph.node("Identity", own, name="score")


def with_label(own: Floats, label: LabelTerm | None, features: Floats) -> Floats:
    """The same sum in float64."""
    return own + label.nats(features) if label else own
