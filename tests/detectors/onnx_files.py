"""Small ONNX models for the tests: an honest distance, and the parts that dishonest ones are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIGNALS = ("a", "b", "c")


def precision(width: int, signals: int) -> np.ndarray:
    """A symmetric positive matrix over the signals, zero in the padding."""
    factor = np.random.default_rng(width).normal(0.0, 1.0, (signals, signals))
    full = np.zeros((width, width), np.float32)
    full[:signals, :signals] = factor @ factor.T / signals + np.eye(signals)
    return full


def port(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes: list[Any], tensors: list[Any], **changes: Any) -> bytes:
    """The bytes of a model that takes `features` [n, 8] and gives `score` [n], unless `changes` say otherwise."""
    graph = helper.make_graph(
        nodes,
        "model",
        changes.get("inputs", [port("features", ["n", 8])]),
        changes.get("outputs", [port("score", ["n"])]),
        tensors,
    )
    opsets = [helper.make_opsetid(*pair) for pair in changes.get("opsets", [("", 17)])]
    made = helper.make_model(graph, opset_imports=opsets)
    made.ir_version = 9
    helper.set_model_props(made, changes.get("properties", {}))
    return made.SerializeToString()


def distance(width: int = 8, signals: int = len(SIGNALS), contribution: bool = False, scale: float = 1.0) -> bytes:
    """score = sqrt(e' P e), with its closed-form contributions where they are asked for."""
    tensors = [
        numpy_helper.from_array(precision(width, signals) * np.float32(scale), "precision"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.arange(signals, dtype=np.int64), "columns"),
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "precision"], ["weighted"]),
        helper.make_node("Mul", ["features", "weighted"], ["parts"]),
        helper.make_node("ReduceSum", ["parts", "axis"], ["square"], keepdims=0),
        helper.make_node("Relu", ["square"], ["positive"]),
        helper.make_node("Sqrt", ["positive"], ["score"]),
    ]
    outputs = [port("score", ["n"])]
    if contribution:
        nodes.append(helper.make_node("Gather", ["parts", "columns"], ["contribution"], axis=1))
        outputs.append(port("contribution", ["n", signals]))
    return model(nodes, tensors, inputs=[port("features", ["n", width])], outputs=outputs)


def wide(median: str | None, signals: int = len(SIGNALS)) -> bytes:
    """score = sum of |features|, for 6 columns a signal, with this `median` in the metadata (None: without)."""
    nodes = [
        helper.make_node("Abs", ["features"], ["size"]),
        helper.make_node("ReduceSum", ["size", "axis"], ["score"], keepdims=0),
    ]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    properties = {} if median is None else {"median": median}
    width = -(-6 * signals // 8) * 8
    return model(nodes, [axis], inputs=[port("features", ["n", width])], properties=properties)


def features(count: int, width: int = 8, signals: int = len(SIGNALS), seed: int = 1) -> np.ndarray:
    """float32[count, width], zero in the padding."""
    rows = np.zeros((count, width), np.float32)
    rows[:, :signals] = np.random.default_rng(seed).normal(0.0, 2.0, (count, signals))
    return rows
