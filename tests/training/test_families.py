"""The families: what is exported equals what was fitted, to the bit in every batch, and says which signal it was."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.ensemble import IsolationForest

from anomaly.detectors.onnx import OnnxDetector
from anomaly.errors import ConfigError
from anomaly.registry import safety
from training.families import FAMILIES, Evidence, Fitted, autoencoder
from training.graph import padded

EVERY = sorted(FAMILIES)
CUTS = (1, 7, 64, 257, 1_024)


def evidence(signals: int, seed: int = 0, late: bool = True) -> Evidence:
    """Correlated healthy evidence, then late evidence that has moved along one signal; padded with zeros."""
    rng = np.random.default_rng(signals)
    noise = np.cov(rng.normal(size=(4 * signals, signals)), rowvar=False).reshape(signals, signals)
    rows = 0.2 * rng.multivariate_normal(np.zeros(signals), noise, 2_000)
    ill = np.arange(2_000) >= 1_500
    rows[ill, 0] += 2.0
    full = np.zeros((2_000, padded(signals)))
    full[:, :signals] = rows.astype(np.float32)
    return Evidence(full, ~ill, ill & late, noise, signals, seed)


@cache
def fitted(family: str, signals: int, late: bool = True) -> Fitted:
    """A model of the family."""
    return FAMILIES[family].fit(evidence(signals, late=late))


def detector(family: str, signals: int, late: bool = True) -> OnnxDetector:
    """The same as it is served."""
    return OnnxDetector(fitted(family, signals, late).onnx, [f"s{j}" for j in range(signals)])


def wide_rows(signals: int, count: int) -> np.ndarray:
    """Readings from within the healthy to far outside."""
    rng = np.random.default_rng(1)
    rows = np.zeros((count, padded(signals)), np.float32)
    rows[:, :signals] = rng.normal(size=(count, signals)) * 10 ** rng.uniform(-2, 2, (count, 1))
    return rows


def in_cuts(served: OnnxDetector, rows: np.ndarray, size: int) -> bytes:
    """Scores of `rows` in batches of `size`, as bytes."""
    return np.concatenate([served.score(rows[at : at + size]) for at in range(0, len(rows), size)]).tobytes()


def worst(family: str, rows: np.ndarray, signals: int, late: bool = True) -> float:
    """Largest difference between what is served and what was fitted, relative above 1."""
    expected = fitted(family, signals, late).score(rows.astype(np.float64))
    error = np.abs(detector(family, signals, late).score(rows) - expected)
    return float((error / np.maximum(1.0, np.abs(expected))).max())


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("signals", [2, 10, 33])
@pytest.mark.parametrize("family", EVERY)
def test_what_is_exported_equals_what_was_fitted(family: str, signals: int, late: bool) -> None:
    """On 10,000 rows, near and far, with and without a label term, the graph is the estimator up to 1e-5."""
    assert worst(family, wide_rows(signals, 10_000), signals, late) <= 1e-5


@settings(max_examples=40, deadline=None)
@given(
    rows=arrays.arrays(np.float32, (5, 10), elements=st.floats(-1_000, 1_000, width=32)),
    family=st.sampled_from(EVERY),
)
def test_no_reading_makes_export_and_estimator_differ(rows: np.ndarray, family: str) -> None:
    """Whatever finite evidence comes, what is served is what was fitted."""
    assert worst(family, np.pad(rows, [(0, 0), (0, 6)]), 10) <= 1e-5


@pytest.mark.parametrize("signals", [3, 10, 20, 33])
@pytest.mark.parametrize("family", EVERY)
def test_a_row_has_the_same_bits_in_every_batch(family: str, signals: int) -> None:
    """No way of cutting the stream changes a bit of a score."""
    served, rows = detector(family, signals), wide_rows(signals, 2_100)
    assert {in_cuts(served, rows, size) for size in CUTS} == {in_cuts(served, rows, len(rows))}


@pytest.mark.parametrize("family", EVERY)
def test_without_padding_the_bits_depend_on_the_batch(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with 17 columns, and hidden layers as wide as they are, a score depends on where a row stands."""
    monkeypatch.setattr(autoencoder, "padded", lambda width: width)
    made = evidence(17)
    made = made._replace(features=np.ascontiguousarray(made.features[:, :17]))
    served = OnnxDetector(FAMILIES[family].fit(made).onnx, [f"s{j}" for j in range(17)])
    rows = wide_rows(17, 2_100)[:, :17]
    assert len({in_cuts(served, rows, size) for size in CUTS}) > 1


@pytest.mark.parametrize("signals", [2, 10, 33])
def test_every_layer_of_an_autoencoder_is_padded(signals: int) -> None:
    """All widths are multiples of 8, those between the layers too."""
    graph = onnx.load_from_string(fitted("autoencoder", signals).onnx).graph
    weights = [list(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 2]
    assert len(weights) == 4
    assert all(size % 8 == 0 for dims in weights for size in dims)


@pytest.mark.parametrize("family", EVERY)
def test_the_seed_decides_every_draw(family: str) -> None:
    """The same seed gives the same bytes; another seed another forest and another network."""
    first, again, other = (FAMILIES[family].fit(evidence(10, seed)).onnx for seed in (3, 3, 4))
    assert first == again
    assert (first != other) == (family in {"isolation-forest", "autoencoder"})


@pytest.mark.parametrize("family", EVERY)
def test_every_family_passes_the_safety_check(family: str) -> None:
    """What training writes is what the registry lets in; all but the forest have a closed form of contributions."""
    contract = safety.check(fitted(family, 10).onnx, 10)
    assert contract.width == 16
    assert ("contribution" in contract.outputs) == (family != "isolation-forest")


@pytest.mark.parametrize("family", EVERY)
def test_the_signal_that_moved_has_the_largest_share(family: str) -> None:
    """Shares sum to 1, and the signal that is far outside, above or below, has the largest."""
    rows = np.zeros((10, 16), np.float32)
    rows[np.arange(10), np.arange(10)] = [2.0, -2.0] * 5
    shares = detector(family, 10, late=False).contributions(rows)
    assert np.allclose(shares.sum(axis=1), 1.0, atol=1e-5)
    assert (shares.argmax(axis=1) == np.arange(10)).mean() >= 0.9


def test_a_forest_is_one_node() -> None:
    """All 100 trees are in one TreeEnsembleRegressor."""
    nodes = onnx.load_from_string(fitted("isolation-forest", 10).onnx).graph.node
    trees = [node for node in nodes if node.op_type == "TreeEnsembleRegressor"]
    assert len(trees) == 1
    assert len(nodes) < 40
    ids = next(attribute.ints for attribute in trees[0].attribute if attribute.name == "nodes_treeids")
    assert sorted(set(ids)) == list(range(100))


def test_a_reading_on_a_cut_takes_the_same_branch() -> None:
    """The float32 at, just below and just above every cut of the first trees goes where the forest sends it."""
    made = evidence(10)
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=0)
    forest.fit(made.features[made.healthy][:, :10])
    rows = []
    for tree in (estimator.tree_ for estimator in forest.estimators_[:10]):
        cuts = np.flatnonzero(tree.children_left >= 0)
        near = np.zeros((len(cuts), 16), np.float32)
        near[np.arange(len(cuts)), tree.feature[cuts]] = tree.threshold[cuts]
        rows += [near, np.nextafter(near, np.float32(-9)), np.nextafter(near, np.float32(9))]
    near = np.concatenate(rows)
    near[:, 10:] = 0.0
    assert worst("isolation-forest", near, 10) <= 1e-5


@pytest.mark.parametrize("family", ["isolation-forest", "autoencoder"])
def test_a_score_is_in_nats(family: str) -> None:
    """Without labels a tenth of the healthy lies above ln 10, half above ln 2, and none below 0."""
    made = evidence(10, late=False)
    score = detector(family, 10, late=False).score(made.features[made.healthy].astype(np.float32))
    assert np.mean(score > np.log(10)) == pytest.approx(0.1, abs=0.01)
    assert np.mean(score > np.log(2)) == pytest.approx(0.5, abs=0.01)
    assert score.min() >= 0


def test_an_autoencoder_of_one_signal_is_refused() -> None:
    """There is nothing that one signal could be told from."""
    with pytest.raises(ConfigError, match="take `distance`"):
        FAMILIES["autoencoder"].fit(evidence(1))


def test_a_forest_needs_no_second_signal() -> None:
    """One signal makes a forest."""
    assert worst("isolation-forest", wide_rows(1, 500), 1) <= 1e-5
