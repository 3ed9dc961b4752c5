"""ONNX graphs written node by node: a few operators, widths that keep the bits equal in every batch."""

from __future__ import annotations

import json

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
IR_VERSION = 9


class Graph:
    """Collects nodes and constants. Every operation answers the name of its result."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix` keeps its names apart from those of another graph."""
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: object, dtype: type = np.float32) -> str:
        """A constant of the graph."""
        name = f"{self._prefix}c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, name: str | None = None, **attributes: object) -> str:
        """Apply an ONNX operator."""
        result = name or f"{self._prefix}n{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [result], **attributes))
        return result

    def row_sum(self, value: str, keep: bool = False) -> str:
        """Sum over the columns of a matrix."""
        return self.node("ReduceSum", value, self.constant([1], np.int64), keepdims=int(keep))

    def to_bytes(self, width: int, signals: int, median: NDArray[np.float64] | None = None) -> bytes:
        """The model: `features` float32[n, width] to `score` float32[n], and, after `shares`, to `contribution`
        float32[n, signals]. `median` [width] are the healthy medians of the features, where they are not all 0: they
        are written into the model's metadata, as JSON."""
        kind = TensorProto.FLOAT
        outputs = [helper.make_tensor_value_info("score", kind, ["n"])]
        if any("contribution" in node.output for node in self._nodes):
            outputs.append(helper.make_tensor_value_info("contribution", kind, ["n", signals]))
        graph = helper.make_graph(
            self._nodes,
            "score",
            [helper.make_tensor_value_info("features", kind, ["n", width])],
            outputs,
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == ML_DOMAIN for node in self._nodes):
            opsets.append(helper.make_opsetid(ML_DOMAIN, ML_OPSET))
        model = helper.make_model(graph, opset_imports=opsets, producer_name="anomaly")
        model.ir_version = IR_VERSION
        if median is not None:
            numbers = [float(value) for value in median.astype(np.float32)]
            helper.set_model_props(model, {"median": json.dumps(numbers)})
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def columns(self, value: str, start: int, stop: int) -> str:
        """Some columns of a matrix."""
        return self.node("Slice", value, *(self.constant([number], np.int64) for number in (start, stop, 1)))

    def put_before(self, model: onnx.ModelProto, features: str, width: int, signals: int) -> bytes:
        """`model` with this graph before it: what it knows as its input is `features` here, a part of `width` columns;
        `score_abrupt` and `contribution_abrupt` are further outputs."""
        for node in model.graph.node:
            node.input[:] = [features if name == "features" else name for name in node.input]
        nodes = [*self._nodes, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(self._constants)
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = width
        kind = TensorProto.FLOAT
        model.graph.output.append(helper.make_tensor_value_info("score_abrupt", kind, ["n"]))
        model.graph.output.append(helper.make_tensor_value_info("contribution_abrupt", kind, ["n", signals]))
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def shares(self, parts: str, signals: int, blocks: int = 1, name: str = "contribution") -> None:
        """Output `name`: the positive parts of the signals, as shares that sum to 1.

        A signal's part is the sum over its columns of `parts` [n, width], one in each of `blocks` blocks.
        """
        if blocks > 1:
            parts = self.node("MatMul", parts, self.constant(_columns_of_signals(signals, blocks)))
        positive = self.node("Relu", parts)
        total = self.node("Add", self.row_sum(positive, keep=True), self.constant(1e-12))
        every = self.node("Div", positive, total)
        start, stop, axis = (self.constant([n], np.int64) for n in (0, signals, 1))
        self.node("Slice", every, start, stop, axis, name=name)


def _columns_of_signals(signals: int, blocks: int) -> NDArray[np.float64]:
    """1 where a column is of a signal [padded(blocks * signals), padded(signals)]."""
    whole = np.zeros((padded(blocks * signals), padded(signals)))
    columns = np.arange(blocks * signals)
    whole[columns, columns % signals] = 1.0
    return whole


def padded(width: int) -> int:
    """The next multiple of 8: with such widths a row has the same bits wherever it stands in a batch.

    >>> padded(8), padded(9)
    (8, 16)
    """
    return -(-width // 8) * 8


def pad(matrix: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """`matrix` with zeros up to `width` in each of its dimensions."""
    return np.pad(matrix, [(0, width - length) for length in matrix.shape])
