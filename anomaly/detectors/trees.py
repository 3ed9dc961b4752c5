"""A TreeEnsembleRegressor node (ONNX-ML) as the trees of a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.detectors.onnx_file import Node
from anomaly.engine.program import NO_TREES, Trees

_PLAIN = {"aggregate_function": b"SUM", "post_transform": b"NONE"}
_BASES = {"base_values", "base_values_as_tensor"}


def trees_of(node: Node, width: int) -> Trees | None:
    """Trees of one target whose leaves are added up, on `width` columns; None where the node says anything else."""
    ends = np.array(node.words("nodes_modes")) == b"LEAF"
    cuts, weights = node.tensor("nodes_values_as_tensor"), node.tensor("target_weights_as_tensor")
    feature = node.numbers("nodes_featureids")
    if not _is_plain(node) or cuts is None or weights is None or not len(ends) == len(cuts) == len(feature):
        return None
    places = _Places(node.numbers("nodes_treeids"), node.numbers("nodes_nodeids"))
    sides = [places.of(places.tree, node.numbers(f"nodes_{side}nodeids")) for side in ("true", "false")]
    leaves = places.of(node.numbers("target_treeids"), node.numbers("target_nodeids"))
    if len(leaves) != len(weights) or any(len(side) != len(ends) for side in sides):
        return None
    every = np.arange(len(ends))
    child = np.where(ends, every, sides).T
    below = child[~ends]
    root = np.setdiff1d(every, below)
    sound = np.isfinite(cuts).all() and ((feature >= 0) & (feature < width)).all() and ends[leaves].all()
    whole = np.array_equal(np.unique(places.tree), np.sort(places.tree[root])) and len(np.unique(below)) == below.size
    if not sound or not whole or (below <= every[~ends, np.newaxis]).any():  # parents come first: there is no circle
        return None
    leaf = np.zeros(len(ends))
    np.add.at(leaf, leaves, weights)
    return NO_TREES._replace(
        root=root,
        depth=np.array([_depth(np.array([first]), child, ends) for first in root], np.int64),
        feature=feature.astype(np.int32),
        cut=_single(cuts),
        child=child.astype(np.int32).ravel(),
        leaf=leaf,
    )


def _is_plain(node: Node) -> bool:
    """Whether leaves are added up to one target and nothing else, and rows at most a cut go to the first side."""
    told = all(node.words(name) in ([], [value]) for name, value in _PLAIN.items())
    one = node.number("n_targets", 1) == 1 and not node.numbers("target_ids").any()
    return (
        told and one and not node.fields.keys() & _BASES and set(node.words("nodes_modes")) <= {b"LEAF", b"BRANCH_LEQ"}
    )


class _Places:
    """Where the nodes of trees stand, by the number of the tree and the node's in it."""

    def __init__(self, tree: NDArray[np.int64], node: NDArray[np.int64]) -> None:
        self.tree = tree
        self._place = {key: place for place, key in enumerate(zip(tree.tolist(), node.tolist(), strict=False))}

    def of(self, tree: NDArray[np.int64], node: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of these nodes; fewer where one of them is not there."""
        found = (self._place.get(key) for key in zip(tree.tolist(), node.tolist(), strict=False))
        return np.array([place for place in found if place is not None], np.int64)


def _depth(nodes: NDArray[np.int64], child: NDArray[np.int64], ends: NDArray[np.bool_]) -> int:
    """Steps from a root to the farthest leaf; no node has two parents."""
    depth = 0
    while len(nodes := child[nodes[~ends[nodes]]].ravel()):
        depth += 1
    return depth


def _single(cuts: NDArray[Any]) -> NDArray[np.float32]:
    """The largest float32 that are at most `cuts`: a float32 is on the same side of both."""
    with np.errstate(over="ignore"):
        near = cuts.astype(np.float32)
    return np.where(near > cuts, np.nextafter(near, np.float32(-np.inf)), near)


def joined(parts: Sequence[Trees]) -> Trees:
    """The trees of all parts, one after the other."""
    whole = NO_TREES
    for part in parts:
        nodes = len(whole.leaf)
        moved = part._replace(root=part.root + nodes, child=part.child + np.int32(nodes))
        columns: Iterator[Any] = zip(whole, moved, strict=True)
        whole = Trees._make(map(np.concatenate, columns))
    return whole._replace(node=NO_TREES.node.copy(), total=NO_TREES.total.copy())
