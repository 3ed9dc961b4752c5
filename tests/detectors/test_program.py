"""A score as a program of a kernel: what ONNX Runtime says, with the same bits in every batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from anomaly.detectors.onnx import OnnxDetector
from anomaly.detectors.program import program_of
from anomaly.engine.program import run
from training.families.trees import Tree, add_trees
from training.graph import Graph
from training.tail import Tail

SIGNALS, WIDTH = 5, 8


def whole_graph() -> bytes:
    """A model with every operator that a program knows."""
    rng = np.random.default_rng(1)
    graph = Graph()
    centered = graph.node("Sub", "features", graph.constant(rng.normal(size=WIDTH)))
    clipped = graph.node("Clip", centered, graph.constant(-1.5), graph.constant(1.5))
    bent = graph.node("Tanh", graph.node("Mul", clipped, graph.constant(9.0)))
    weights = rng.normal(size=(WIDTH, WIDTH))
    weights[SIGNALS:] = 0.0
    parts = graph.node("Mul", bent, graph.node("MatMul", bent, graph.constant(weights)))
    other = graph.row_sum(graph.node("MatMul", bent, graph.constant(rng.normal(size=(WIDTH, WIDTH)))))
    graph.shares(parts, SIGNALS)
    length = graph.node("Sqrt", graph.node("Relu", graph.row_sum(parts)))
    own = Tail(1.0, 2.0, 0.5).add_to(graph, length)
    grown = [add_trees(graph, "features", [tree(rng) for _ in range(count)]) for count in (3, 4)]
    own = graph.node("Add", own, graph.node("Exp", graph.node("Sub", *grown)))
    first = graph.row_sum(graph.columns(clipped, 0, 2))
    bounded = graph.node(
        "Min", graph.node("Max", own, graph.node("Div", first, graph.constant(3.0))), graph.constant(4.0)
    )
    graph.node("Add", bounded, other, name="score")
    return graph.to_bytes(WIDTH, SIGNALS)


def tree(rng: np.random.Generator) -> Tree:
    """Two cuts and three leaves."""
    cuts = rng.normal(size=5)
    left, right = np.array([1, -1, 3, -1, -1]), np.array([2, -1, 4, -1, -1])
    return Tree(left, right, rng.integers(0, SIGNALS, 5), cuts, rng.normal(size=5))


def rows(count: int) -> NDArray[np.float32]:
    """Features, the padding 0."""
    features = np.random.default_rng(2).normal(size=(count, WIDTH)).astype(np.float32)
    features[:, SIGNALS:] = 0.0
    return features


def test_a_program_says_what_onnx_runtime_says() -> None:
    """All operators, to rounding; a detector scores by it."""
    model, features = whole_graph(), rows(1_000)
    detector = OnnxDetector(model, [f"s{j}" for j in range(SIGNALS)])
    program = program_of(model, "score", WIDTH)
    assert program is not None
    wanted = detector._session.run(["score"], {"features": features})[0]
    assert np.abs(run(program, features) - wanted).max() < 1e-5
    assert detector.score(features).tobytes() == run(program, features).tobytes()


@pytest.mark.parametrize("size", [1, 7, 31, 32, 33, 257])
def test_a_score_has_the_same_bits_in_every_batch(size: int) -> None:
    """However rows are cut into calls, each has the score that it has in one call."""
    program, features = program_of(whole_graph(), "score", WIDTH), rows(600)
    assert program is not None
    parts = [run(program, features[start : start + size]) for start in range(0, len(features), size)]
    assert np.concatenate(parts).tobytes() == run(program, features).tobytes()


def test_the_kernel_has_the_bits_of_plain_python() -> None:
    """The compiled sums are made in the order in which they are written down."""
    program = program_of(whole_graph(), "score", WIDTH)
    assert program is not None
    code = (
        "import test_program as t\n"
        "program = t.program_of(t.whole_graph(), 'score', t.WIDTH)\n"
        "print(t.run(program, t.rows(40)).tobytes().hex())"
    )
    plain = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=plain, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == run(program, rows(40)).tobytes().hex()


def test_what_a_program_does_not_know_is_left_to_onnx_runtime() -> None:
    """An operator without an operation: no program, and the same score as ever."""
    graph = Graph()
    graph.node("Sigmoid", graph.row_sum("features"), name="score")
    model = graph.to_bytes(WIDTH, SIGNALS)
    assert program_of(model, "score", WIDTH) is None
    wanted = 1.0 / (1.0 + np.exp(-rows(3).sum(axis=1)))
    assert OnnxDetector(model, [f"s{j}" for j in range(SIGNALS)]).score(rows(3)) == pytest.approx(wanted, abs=1e-6)


def test_constants_are_read_as_onnx_writes_them(tmp_path: Path) -> None:
    """A file that was written by `onnx` itself gives the same program."""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load_model_from_string(whole_graph()), path)
    again, first = program_of(path.read_bytes(), "score", WIDTH), program_of(whole_graph(), "score", WIDTH)
    assert again is not None
    assert first is not None
    arrays = [(*program[:2], *program.trees) for program in (again, first)]
    assert all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))
    assert again[3:] == first[3:]


def test_long_sums_are_left_to_onnx_runtime() -> None:
    """The product of a hundred columns has no program: what is lost to rounding there would be more than is allowed."""
    graph = Graph()
    parts = graph.node("Mul", "features", graph.node("MatMul", "features", graph.constant(np.ones((104, 104)))))
    graph.node("Sqrt", graph.row_sum(parts), name="score")
    assert program_of(graph.to_bytes(104, 100), "score", 104) is None
