"""How soon random cuts isolate the evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.tree._tree import Tree as FittedTree

from training.families.family import Evidence, Fitted, Floats
from training.families.label import with_label_term
from training.families.trees import Tree, add_trees, quantised
from training.graph import Graph
from training.tail import fit_tail

TREES = 100
SAMPLES = 256
"""As published. With 64 a score costs a third less and leads as well, but its ceiling comes nearer to the threshold."""


def fit_isolation_forest(evidence: Evidence) -> Fitted:
    """Anomaly score 2^(-E(h) / c(m)) of 100 trees on 256 healthy readings each, in nats, plus the label term.

    h is the length of a reading's path to its leaf, c(m) the mean one of an unsuccessful search among m readings
    (Liu, Ting and Zhou 2008). All evidence beyond the outermost cuts gets the same score: the family sees that a
    vehicle is unlike the healthy ones, hardly how far.
    """
    columns = evidence.columns
    healthy = evidence.features[evidence.healthy]
    samples = min(SAMPLES, len(healthy))
    forest = IsolationForest(n_estimators=TREES, max_samples=samples, random_state=evidence.seed)
    forest.fit(healthy[:, :columns])

    def isolation(features: Floats) -> Floats:
        return np.asarray(-forest.score_samples(features[:, :columns]))

    tail = fit_tail(isolation(healthy), "isolation score")
    usual = float(average_path(np.array([samples]))[0])
    graph = Graph()
    surplus = add_trees(graph, "features", [_tree(tree.tree_, usual) for tree in forest.estimators_])
    exponent = graph.node("Mul", surplus, graph.constant(-np.log(2) / (TREES * usual)))
    own = graph.node("Mul", graph.node("Exp", exponent), graph.constant(0.5))
    own = tail.add_to(graph, own)
    return with_label_term(graph, own, lambda features: tail.nats(isolation(features)), evidence)


def average_path(readings: NDArray[np.int64]) -> Floats:
    """c(n) = 2 H(n - 1) - 2 (n - 1) / n, with H(i) = ln(i) + Euler's constant: mean path among n readings.

    >>> average_path(np.array([1, 2, 256])).round(3).tolist()
    [0.0, 1.0, 10.245]
    """
    n = np.maximum(readings, 3).astype(np.float64)
    long = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.asarray(np.select([readings <= 1, readings == 2], [0.0, 1.0], long))


def _tree(tree: FittedTree, usual: float) -> Tree:
    """A fitted tree; path lengths are less `usual`, so that the sum stays small and keeps its digits."""
    left, right = tree.children_left, tree.children_right
    depth = np.zeros(tree.node_count)
    for node in np.flatnonzero(left >= 0):  # parents come before their children
        depth[[left[node], right[node]]] = depth[node] + 1
    path = depth + average_path(tree.n_node_samples) - usual
    return Tree(left, right, tree.feature, tree.threshold, quantised(path))
