"""No model file can hurt: what is refused before it is loaded, and what a trial run catches."""

from __future__ import annotations

import pickle
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from anomaly.errors import ModelError
from anomaly.registry.probe import Limits, probe
from anomaly.registry.safety import MAX_BYTES, Contract, check
from tests.detectors.onnx_files import distance, model, port

MEMORY = 600 * 1024**2
LIMITED = pytest.mark.skipif(sys.platform == "darwin", reason="macOS cannot limit a process's address space")
MOST = helper.make_node("ReduceMax", ["features"], ["score"], axes=[1], keepdims=0)


def outside(location: str, place: int = TensorProto.EXTERNAL) -> bytes:
    """A model with weights in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8], data_location=place)
    for key, value in (("location", location), ("offset", "0"), ("length", "32")):
        tensor.external_data.add(key=key, value=value)
    return model([helper.make_node("Add", ["features", "w"], ["y"]), MOST], [tensor])


def outside_in_constant() -> bytes:
    """The same, hidden in the attribute of an operator and named by its place alone."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8], data_location=TensorProto.EXTERNAL)
    return model([helper.make_node("Constant", [], ["w"], value=tensor), MOST], [])


def with_loop() -> bytes:
    """A model with a graph inside an operator."""
    body = helper.make_graph([], "body", [], [port("y", ["n"])])
    node = helper.make_node("If", ["features"], ["score"], then_branch=body, else_branch=body)
    return model([node], [])


def constant_bomb() -> bytes:
    """275 GB made from one number."""
    size = numpy_helper.from_array(np.array([1 << 36], np.int64), "size")
    return model([helper.make_node("ConstantOfShape", ["size"], ["big"]), MOST], [size])


def with_function() -> bytes:
    """A model that defines an operator of its own."""
    whole: Any = helper.make_model(helper.make_graph([MOST], "g", [port("features", ["n", 8])], [port("score", ["n"])]))
    whole.functions.append(helper.make_function("mine", "F", ["x"], ["y"], [], [helper.make_opsetid("", 17)]))
    return whole.SerializeToString()


HOSTILE = {
    "empty": (b"", "empty"),
    "pickle": (pickle.dumps({"a": list(range(100))}), "pickle"),
    "text": (b"<!DOCTYPE html><html>no</html>", "no ONNX model|cut short"),
    "truncated": (distance()[: len(distance()) // 2], "cut short"),
    "too large": (b"\x00" * (MAX_BYTES + 1), "at most 33,554,432"),
    "custom operator": (
        model(
            [helper.make_node("Evil", ["features"], ["score"], domain="com.evil")],
            [],
            opsets=[("", 17), ("com.evil", 1)],
        ),
        "`Evil` of the domain `com.evil`",
    ),
    "external data above": (outside("../secret.bin"), "another file"),
    "external data absolute": (outside("/etc/passwd"), "another file"),
    "external data beside": (outside("weights.bin"), "another file"),
    "external data without a place": (outside("weights.bin", TensorProto.DEFAULT), "another file"),
    "external data in a constant": (outside_in_constant(), "another file"),
    "graph in an operator": (with_loop(), "graph inside an operator"),
    "function": (with_function(), "functions of its own"),
    "constant bomb": (constant_bomb(), "`ConstantOfShape`"),
    "wrong input": (model([MOST], [], inputs=[port("X", ["n", 8])]), "must be `features`.*not `X`"),
    "two inputs": (model([MOST], [], inputs=[port("features", ["n", 8]), port("b", ["n", 1])]), "alone"),
    "double input": (model([MOST], [], inputs=[port("features", ["n", 8], TensorProto.DOUBLE)]), "type 11"),
    "free width": (model([MOST], [], inputs=[port("features", ["n", "d"])]), r"\[n, n\]"),
    "fixed rows": (model([MOST], [], inputs=[port("features", [64, 8])]), r"\[64, 8\]"),
    "wrong output": (model([MOST], [], outputs=[port("label", ["n"])]), "not `label`"),
    "score in a column": (model([MOST], [], outputs=[port("score", ["n", 1])]), r"\[n, 1\]"),
    "contributions of others": (distance(contribution=True, signals=5), "must have 3 columns"),
    "newer opset": (model([MOST], [], opsets=[("", 99)]), "opset 99"),
    "no opset": (model([MOST], [], opsets=[]), "does not say"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_words(name: str) -> None:
    """Each is refused before anything loads it, with a sentence that says what is wrong."""
    data, said = HOSTILE[name]
    with pytest.raises(ModelError, match=said):
        check(data, signals=3)


def test_an_honest_model_passes_both() -> None:
    """The default family's graph is let through, and its trial run succeeds."""
    assert check(distance(), 3) == Contract(8, ("score",), 17)
    assert check(distance(contribution=True), 3) == Contract(8, ("score", "contribution"), 17)
    probe(distance(contribution=True), 3)


def test_everything_wrong_is_said_at_once() -> None:
    """A model with several faults is refused with all of them, each once."""
    nodes = [helper.make_node("Loop", ["features"], ["y"]), helper.make_node("Loop", ["y"], ["score"])]
    with pytest.raises(ModelError) as caught:
        check(model(nodes, [], inputs=[port("X", ["n", 8])], opsets=[("", 99)]))
    assert [line for line in str(caught.value).splitlines() if "Loop" in line] == [
        "  uses the operator `Loop`, which is not among the allowed ones"
    ]
    assert len(str(caught.value).splitlines()) == 4


@given(st.binary(max_size=300) | st.tuples(st.integers(0, 500), st.integers(0, 255)))
@settings(max_examples=300, deadline=None)
def test_no_bytes_bring_the_reader_down(change: bytes | tuple[int, int]) -> None:
    """Any bytes, and a model with any byte changed, are a contract or a ModelError, never another exception."""
    data = bytearray(distance(contribution=True))
    if isinstance(change, bytes):
        data = bytearray(change)
    else:
        data[change[0] % len(data)] = change[1]
    with suppress(ModelError):
        assert check(bytes(data)).width > 0


def broadcast_bomb(rows: int = 1 << 17, columns: int = 1 << 17) -> bytes:
    """Allowed operators, a small file, 4 * rows * columns bytes when run (68 GB): a column of weights plus a row."""
    nodes = [
        helper.make_node("Add", ["column", "row"], ["big"]),
        helper.make_node("ReduceMax", ["big"], ["top"], keepdims=0),
        helper.make_node("ReduceMax", ["features"], ["most"], axes=[1], keepdims=0),
        helper.make_node("Relu", ["most"], ["positive"]),
        helper.make_node("Add", ["positive", "top"], ["score"]),
    ]
    tensors = [
        numpy_helper.from_array(np.ones((rows, 1), np.float32), "column"),
        numpy_helper.from_array(np.ones((1, columns), np.float32), "row"),
    ]
    return model(nodes, tensors)


@LIMITED
def test_a_memory_bomb_is_contained() -> None:
    """A bomb that the operators do not give away ends in its own process, within its memory, and is refused."""
    bomb = broadcast_bomb()
    assert check(bomb).width == 8
    with pytest.raises(ModelError, match="more memory than it may have"):
        probe(bomb, 3)


@LIMITED
def test_the_memory_limit_is_what_refuses() -> None:
    """What needs 400 MB is refused in little memory, in which a small model runs, and let through in more."""
    large = broadcast_bomb(1 << 13, 12_500)
    with pytest.raises(ModelError, match="more memory than it may have"):
        probe(large, 3, Limits(memory=MEMORY))
    probe(large, 3, Limits(memory=MEMORY + 1024**3))
    probe(distance(), 3, Limits(memory=MEMORY))


def endless() -> bytes:
    """A small file of 20,000 products of large matrices."""
    side = 1_024
    nodes = [helper.make_node("Reshape", ["weights", "shape"], ["x0"])]
    for step in range(20_000):
        nodes.append(helper.make_node("MatMul", [f"x{step}", "weights"], [f"x{step + 1}"]))
    nodes.append(helper.make_node("ReduceMax", ["x20000"], ["top"], keepdims=0))
    tensors = [
        numpy_helper.from_array(np.full((side, side), 1e-3, np.float32), "weights"),
        numpy_helper.from_array(np.array([side, side], np.int64), "shape"),
    ]
    return model([*nodes, MOST], tensors)


def test_a_model_that_takes_for_ever_is_ended() -> None:
    """A trial run that uses up its CPU time is ended and refused."""
    with pytest.raises(ModelError, match="CPU time"):
        probe(endless(), 3, Limits(cpu_s=1))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([helper.make_node("ReduceMin", ["features"], ["score"], axes=[1], keepdims=0)], "finite numbers >= 0"),
        (
            [
                helper.make_node("ReduceMax", ["features"], ["most"], axes=[1], keepdims=0),
                helper.make_node("Exp", ["most"], ["huge"]),
                helper.make_node("Exp", ["huge"], ["score"]),
            ],
            "finite numbers >= 0",
        ),
        ([helper.make_node("ReduceMax", ["features"], ["score"], keepdims=0)], r"cannot be run|finite"),
    ],
)
def test_scores_that_are_none_are_refused(nodes: list[Any], said: str) -> None:
    """Negative scores, infinite scores and one score for all readings do not pass the trial run."""
    with pytest.raises(ModelError, match=said):
        probe(model(nodes, []), 3)


def test_the_trial_run_sees_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The process does not get our environment, in which there may be secrets."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif 'SECRET_TOKEN' in os.environ: os._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    probe(distance(), 3)
