"""How soon random cuts isolate the evidence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from sklearn.ensemble import IsolationForest
from sklearn.tree._tree import Tree

from training.families.family import Evidence, Fitted, Floats
from training.families.label import add_score, fit_label_term, with_label
from training.graph import ML_DOMAIN, Graph
from training.tail import fit_tail

TREES = 100
SAMPLES = 256
"""As published. With 64 a score costs a third less and leads as well, but its ceiling comes nearer to the threshold."""
QUANTUM = 2.0**-40
"""Leaves are whole multiples of it: then 100 path lengths have an exact sum in float64, in every order."""


class _Nodes(NamedTuple):
    """The nodes of one tree: children (-1 at a leaf), feature, threshold, and at leaves the path length."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: Floats
    path: Floats


def fit_isolation_forest(evidence: Evidence) -> Fitted:
    """Anomaly score 2^(-E(h) / c(m)) of 100 trees on 256 healthy readings each, in nats, plus the label term.

    h is the length of a reading's path to its leaf, c(m) the mean one of an unsuccessful search among m readings
    (Liu, Ting and Zhou 2008). All evidence beyond the outermost cuts gets the same score: the family sees that a
    vehicle is unlike the healthy ones, hardly how far.
    """
    width, signals = evidence.features.shape[1], evidence.signals
    healthy = evidence.features[evidence.healthy]
    samples = min(SAMPLES, len(healthy))
    forest = IsolationForest(n_estimators=TREES, max_samples=samples, random_state=evidence.seed)
    forest.fit(healthy[:, :signals])

    def isolation(features: Floats) -> Floats:
        return np.asarray(-forest.score_samples(features[:, :signals]))

    tail = fit_tail(isolation(healthy), "isolation score")
    label = fit_label_term(evidence)
    usual = float(average_path(np.array([samples]))[0])
    graph = Graph()
    surplus = _add_trees(graph, [_nodes(tree.tree_, usual) for tree in forest.estimators_])
    exponent = graph.node("Mul", surplus, graph.constant(-np.log(2) / (TREES * usual)))
    own = graph.node("Mul", graph.node("Exp", exponent), graph.constant(0.5))
    add_score(graph, tail.add_to(graph, own), label)
    return Fitted(
        graph.to_bytes(width, signals),
        lambda features: with_label(tail.nats(isolation(features)), label, features),
    )


def average_path(readings: NDArray[np.int64]) -> Floats:
    """c(n) = 2 H(n - 1) - 2 (n - 1) / n, with H(i) = ln(i) + Euler's constant: mean path among n readings.

    >>> average_path(np.array([1, 2, 256])).round(3).tolist()
    [0.0, 1.0, 10.245]
    """
    n = np.maximum(readings, 3).astype(np.float64)
    long = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.asarray(np.select([readings <= 1, readings == 2], [0.0, 1.0], long))


def _nodes(tree: Tree, usual: float) -> _Nodes:
    """The nodes of a fitted tree; path lengths are less `usual`, so that the sum stays small and keeps its digits."""
    left, right = tree.children_left, tree.children_right
    depth = np.zeros(tree.node_count)
    for node in np.flatnonzero(left >= 0):  # parents come before their children
        depth[[left[node], right[node]]] = depth[node] + 1
    path = depth + average_path(tree.n_node_samples) - usual
    return _Nodes(left, right, tree.feature, tree.threshold, np.round(path / QUANTUM) * QUANTUM)


def _add_trees(graph: Graph, trees: list[_Nodes]) -> str:
    """Sum over trees of path lengths less the usual one, as one TreeEnsembleRegressor node.

    It compares and sums in float64, as the fitted trees do: a float32 reading takes the same branch at every cut.
    """
    sizes = [len(tree.left) for tree in trees]
    every = _Nodes(*(np.concatenate(column) for column in zip(*trees, strict=True)))
    leaf = every.left < 0
    tree_ids, node_ids = (
        np.repeat(np.arange(len(trees)), sizes),
        np.concatenate([np.arange(n) for n in sizes]),
    )
    total = graph.node(
        "TreeEnsembleRegressor",
        graph.node("Cast", "features", to=TensorProto.DOUBLE),
        domain=ML_DOMAIN,
        aggregate_function="SUM",
        n_targets=1,
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_featureids=np.where(leaf, 0, every.feature).tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_truenodeids=np.where(leaf, 0, every.left).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, every.right).tolist(),
        nodes_values_as_tensor=numpy_helper.from_array(np.where(leaf, 0.0, every.threshold)),
        target_treeids=tree_ids[leaf].tolist(),
        target_nodeids=node_ids[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights_as_tensor=numpy_helper.from_array(every.path[leaf]),
    )
    return graph.row_sum(total)
