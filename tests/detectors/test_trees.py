"""Decision trees of an ONNX file as those of a program: each row comes to the leaf that ONNX Runtime finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from anomaly.detectors.onnx import OnnxDetector
from anomaly.detectors.onnx_file import Node
from anomaly.detectors.program import program_of
from anomaly.engine.program import run
from training.families.trees import Tree, add_trees
from training.graph import Graph

WIDTH = 8


def grown(rng: np.random.Generator, depth: int) -> Tree:
    """A tree that is `depth` deep at most: at each node a cut or, one time in four, a leaf."""
    nodes: list[list[float]] = []

    def grow(left: int) -> int:
        place = len(nodes)
        nodes.append([-1, -1, rng.integers(0, WIDTH), rng.normal(), rng.normal()])
        if left and (place == 0 or rng.random() < 0.75):
            nodes[place][0], nodes[place][1] = grow(left - 1), grow(left - 1)
        return place

    grow(depth)
    columns = np.array(nodes).T
    return Tree(*(column.astype(np.int64) for column in columns[:3]), columns[3], columns[4])


def forest(**changed: Any) -> bytes:
    """A model whose score is the sum over twelve trees; `changed` are attributes of their node, None: left out."""
    rng = np.random.default_rng(3)
    graph = Graph()
    graph.node("Identity", add_trees(graph, "features", [grown(rng, depth) for depth in range(1, 13)]), name="score")
    model = onnx.load_model_from_string(graph.to_bytes(WIDTH, WIDTH))
    node = next(node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    for name, value in changed.items():
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, *([] if value is None else [onnx.helper.make_attribute(name, value)])])
    return bytes(model.SerializeToString())


def attribute(name: str) -> list[Any]:
    """What `forest()` says there."""
    nodes = onnx.load_model_from_string(forest()).graph.node
    node = next(node for node in nodes if node.op_type == "TreeEnsembleRegressor")
    return list(onnx.helper.get_node_attr_value(node, name))


def near_cuts(model: bytes) -> NDArray[np.float32]:
    """Rows at, just below and just above cuts, one that is not a number, and one at infinity."""
    program = program_of(model, "score", WIDTH)
    assert program is not None
    trees = program.trees
    rows = np.random.default_rng(4).normal(size=(len(trees.cut), WIDTH)).astype(np.float32)
    rows[np.arange(len(rows)), trees.feature] = trees.cut
    strange = np.full((2, WIDTH), [[np.nan], [np.inf]], np.float32)
    return np.concatenate([rows, np.nextafter(rows, np.float32(-9)), np.nextafter(rows, np.float32(9)), strange])


def test_every_row_comes_to_the_leaf_that_onnx_runtime_finds() -> None:
    """Trees of one to twelve levels, at all their cuts."""
    model = forest()
    rows, program = near_cuts(model), program_of(model, "score", WIDTH)
    assert program is not None
    assert program.trees.depth.max() == 12
    wanted = OnnxDetector(model, [f"s{j}" for j in range(WIDTH)])._session.run(["score"], {"features": rows})[0]
    assert len(np.unique(wanted)) > 100
    assert np.abs(run(program, rows) - wanted).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aggregate_function", "AVERAGE"),
        ("post_transform", "PROBIT"),
        ("base_values", [1.0]),
        ("nodes_modes", ["BRANCH_LT"]),
        ("target_ids", [1]),
        ("nodes_values_as_tensor", None),
        ("nodes_featureids", [WIDTH]),
        ("nodes_featureids", [-1]),
        ("nodes_truenodeids", [0]),
        ("nodes_falsenodeids", [10_000_000]),
        ("target_nodeids", [0]),
        ("nodes_treeids", None),
    ],
)
def test_trees_that_say_anything_else_are_left_to_onnx_runtime(name: str, value: Any) -> None:
    """Another sum, another comparison, a column that is not there, a node that is its own parent or is nowhere: no
    program, and no endless loop. Of a list the first place is changed."""
    if isinstance(value, list) and name != "base_values" and value:
        value = [*value, *attribute(name)[1:]]
    assert program_of(forest(**{name: value}), "score", WIDTH) is None


def test_a_list_of_whole_numbers_may_be_packed() -> None:
    """Writers may put a list's numbers one after the other into one field, as proto3 does; it is read as the same."""
    plain = b"".join(bytes([0x40, number]) for number in (3, 5)) + bytes([0x40, 0x80, 0x02])
    packed = bytes([0x42, 4, 3, 5, 0x80, 0x02])
    nodes = [Node("", (), "", {"ids": memoryview(data)}) for data in (plain, packed)]
    assert [node.numbers("ids").tolist() for node in nodes] == [[3, 5, 256], [3, 5, 256]]
