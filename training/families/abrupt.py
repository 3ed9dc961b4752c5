"""The second channel of a model: the same distance on quick evidence, for faults that come from one reading to the
next."""

from __future__ import annotations

import onnx

from training.families.distance import add_length, length, precision_of
from training.families.family import Evidence, Floats
from training.graph import Graph, padded
from training.tail import fit_tail


def add_abrupt(model: bytes, quick: Floats, evidence: Evidence) -> bytes:
    """`model`, whose features are those of `evidence`, with the columns of quick evidence behind them, and the outputs
    `score_abrupt` and `contribution_abrupt` from these.

    `quick` [n, w] is what those columns are in the readings of `evidence`; its distance is taken under the noise of
    single readings, as that of the family `distance` is.
    """
    main, width = evidence.features.shape[1], padded(evidence.signals)
    precision = precision_of(evidence.noise, width)
    tail = fit_tail(length(quick[evidence.healthy], precision), "quick distance")
    graph = Graph("quick_")
    own = graph.columns("features", 0, main)
    second = graph.columns("features", main, main + width)
    graph.node(
        "Identity",
        tail.add_to(graph, add_length(graph, second, precision, evidence.signals, "contribution_abrupt")),
        name="score_abrupt",
    )
    return graph.put_before(onnx.load_model_from_string(model), own, main + width, evidence.signals)
