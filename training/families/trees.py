"""Many decision trees as one ONNX node."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from training.graph import ML_DOMAIN, Graph

Floats = NDArray[np.float64]
QUANTUM = 2.0**-40
"""Leaves are whole multiples of it: then a hundred of them have an exact sum in float64, in every order."""


class Tree(NamedTuple):
    """The nodes of one tree: children (-1 at a leaf), feature, threshold (left where the feature is at most that), and
    at leaves the value."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: Floats
    value: Floats


def quantised(values: Floats) -> Floats:
    """`values` as whole multiples of QUANTUM."""
    return np.asarray(np.round(values / QUANTUM) * QUANTUM)


def add_trees(graph: Graph, features: str, trees: list[Tree]) -> str:
    """Sum over trees of the leaf of each row of `features`, as one TreeEnsembleRegressor node.

    It compares and sums in float64, as the fitted trees do: a float32 reading takes the same branch at every cut.
    """
    sizes = [len(tree.left) for tree in trees]
    every = Tree(*(np.concatenate(column) for column in zip(*trees, strict=True)))
    leaf = every.left < 0
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(n) for n in sizes])
    total = graph.node(
        "TreeEnsembleRegressor",
        graph.node("Cast", features, to=TensorProto.DOUBLE),
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
        target_weights_as_tensor=numpy_helper.from_array(every.value[leaf]),
    )
    return graph.row_sum(total)
