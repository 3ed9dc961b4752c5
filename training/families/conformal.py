"""How rare a reading is in its own stream, whatever the rest of the fleet does."""

from __future__ import annotations

import numpy as np

from training.families.family import Evidence, Fitted, Floats
from training.graph import Graph


def fit_conformal(evidence: Evidence) -> Fitted:
    """Mean of the conformal features, which are in nats already: -ln p of four plain signals of each scored one.

    Nothing is fitted, and labels are not used: a stream's own past is all that there is, and it is in the state. The
    features are those of `anomaly.engine.conformal`, 0 but where a reading is a record of late.
    """
    share = np.zeros(evidence.features.shape[1])
    share[: evidence.columns] = 1.0 / evidence.columns
    graph = Graph()
    graph.shares("features", evidence.signals, evidence.blocks)
    total = graph.row_sum(graph.node("Mul", "features", graph.constant(share)))
    graph.node("Relu", total, name="score")

    def score(features: Floats) -> Floats:
        return np.maximum(features @ share, 0.0)

    return Fitted(graph.to_bytes(evidence.features.shape[1], evidence.signals), score)
