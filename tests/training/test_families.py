"""The families: what is exported equals what was fitted, to the bit in every batch, and says which signal it was."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.ensemble import IsolationForest
from threadpoolctl import threadpool_limits

from anomaly.detectors.onnx import OnnxDetector
from anomaly.errors import ConfigError
from anomaly.registry import safety
from training.families import FAMILIES, Evidence, Fitted, autoencoder
from training.graph import padded

EVERY = sorted(FAMILIES)
WIDE = sorted(set(FAMILIES) - {"distance"})
CUTS = (1, 7, 64, 257, 1_024)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in training."""
    with threadpool_limits(1):
        yield


def evidence(signals: int, seed: int = 0, faulty: bool = True) -> Evidence:
    """Correlated healthy evidence, then faulty evidence that has moved along one signal; padded with zeros."""
    rng = np.random.default_rng(signals)
    noise = np.cov(rng.normal(size=(4 * signals, signals)), rowvar=False).reshape(signals, signals)
    rows = 0.2 * rng.multivariate_normal(np.zeros(signals), noise, 2_000)
    ill = np.arange(2_000) >= 1_500
    rows[ill, 0] += 2.0
    full = np.zeros((2_000, padded(signals)))
    full[:, :signals] = rows.astype(np.float32)
    return Evidence(full, ~ill, ill & faulty, ~ill, noise, 0.05, signals, seed)


def six_blocks(signals: int, label_term: Literal["logistic", "boosting"] = "logistic") -> Evidence:
    """Wide features of 2,000 readings, a quarter of them faulty and moved along signal 0; only the last block, the
    spread, is far from 0 where all is healthy."""
    rng = np.random.default_rng(signals)
    typical = np.repeat([1.0, 1.4, 0.2, 0.4, 0.1, 0.2], signals)
    columns = np.tile(rng.normal(size=(2_000, signals)), 6) * 0.5 + rng.normal(size=(2_000, 6 * signals))
    columns *= typical
    columns[:, 5 * signals :] = np.abs(1.0 + columns[:, 5 * signals :])
    ill = np.arange(2_000) >= 1_500
    columns[np.ix_(ill, np.arange(5) * signals)] += 2.0
    full = np.zeros((2_000, padded(6 * signals)))
    full[:, : 6 * signals] = columns.astype(np.float32)
    return Evidence(full, ~ill, ill, ~ill, np.eye(signals), 0.05, signals, 0, 6, label_term)


@cache
def fitted_wide(family: str, signals: int, label_term: Literal["logistic", "boosting"] = "logistic") -> Fitted:
    """A model of the family on wide features."""
    return FAMILIES[family].fit(six_blocks(signals, label_term))


@cache
def fitted_boosting(family: str, signals: int) -> Fitted:
    """A model of the family on evidence whose label term is boosted trees."""
    return FAMILIES[family].fit(evidence(signals)._replace(label_term="boosting"))


def served_as(model: Fitted, signals: int) -> OnnxDetector:
    """A fitted model as it is served."""
    return OnnxDetector(model.onnx, [f"s{j}" for j in range(signals)])


def furthest(model: Fitted, rows: np.ndarray, signals: int) -> float:
    """Largest difference between what is served and what was fitted, relative above 1."""
    expected = model.score(rows.astype(np.float64))
    error = np.abs(served_as(model, signals).score(rows) - expected)
    return float((error / np.maximum(1.0, np.abs(expected))).max())


@cache
def fitted(family: str, signals: int, faulty: bool = True) -> Fitted:
    """A model of the family."""
    return FAMILIES[family].fit(evidence(signals, faulty=faulty))


def detector(family: str, signals: int, faulty: bool = True) -> OnnxDetector:
    """The same as it is served."""
    return served_as(fitted(family, signals, faulty), signals)


def near_and_far(columns: int, count: int) -> np.ndarray:
    """Readings from within the healthy to far outside."""
    rng = np.random.default_rng(1)
    rows = np.zeros((count, padded(columns)), np.float32)
    rows[:, :columns] = rng.normal(size=(count, columns)) * 10 ** rng.uniform(-2, 2, (count, 1))
    return rows


def in_cuts(served: OnnxDetector, rows: np.ndarray, size: int) -> bytes:
    """Scores of `rows` in batches of `size`, as bytes."""
    return np.concatenate([served.score(rows[at : at + size]) for at in range(0, len(rows), size)]).tobytes()


def worst(family: str, rows: np.ndarray, signals: int, faulty: bool = True) -> float:
    """Largest difference between what is served and what was fitted, relative above 1."""
    return furthest(fitted(family, signals, faulty), rows, signals)


@pytest.mark.parametrize("faulty", [True, False])
@pytest.mark.parametrize("signals", [2, 10, 33])
@pytest.mark.parametrize("family", EVERY)
def test_what_is_exported_equals_what_was_fitted(family: str, signals: int, faulty: bool) -> None:
    """On 10,000 rows, near and far, with and without a label term, the graph is the estimator up to 1e-5."""
    assert worst(family, near_and_far(signals, 10_000), signals, faulty) <= 1e-5


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
    served, rows = detector(family, signals), near_and_far(signals, 2_100)
    assert {in_cuts(served, rows, size) for size in CUTS} == {in_cuts(served, rows, len(rows))}


@pytest.mark.parametrize("family", EVERY)
def test_without_padding_the_bits_depend_on_the_batch(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with 17 columns, and hidden layers as wide as they are, ONNX Runtime's score depends on where a row
    stands; one that is a program never does."""
    monkeypatch.setattr(autoencoder, "padded", lambda width: width)
    made = evidence(17)
    made = made._replace(features=np.ascontiguousarray(made.features[:, :17]))
    served = OnnxDetector(FAMILIES[family].fit(made).onnx, [f"s{j}" for j in range(17)])
    served._programs = {}
    rows = near_and_far(17, 2_100)[:, :17]
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
    rows[np.arange(10), np.arange(10)] = 2.0 if family == "conformal" else [2.0, -2.0] * 5
    shares = detector(family, 10, faulty=False).contributions(rows)
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
    made = evidence(10, faulty=False)
    score = detector(family, 10, faulty=False).score(made.features[made.healthy].astype(np.float32))
    assert np.mean(score > np.log(10)) == pytest.approx(0.1, abs=0.01)
    assert np.mean(score > np.log(2)) == pytest.approx(0.5, abs=0.01)
    assert score.min() >= 0


def test_an_autoencoder_of_one_signal_is_refused() -> None:
    """There is nothing that one signal could be told from."""
    with pytest.raises(ConfigError, match="take `distance`"):
        FAMILIES["autoencoder"].fit(evidence(1))


def test_a_forest_needs_no_second_signal() -> None:
    """One signal makes a forest."""
    assert worst("isolation-forest", near_and_far(1, 500), 1) <= 1e-5


@pytest.mark.parametrize("label_term", ["logistic", "boosting"])
@pytest.mark.parametrize("family", WIDE)
def test_wide_features_are_exported_as_they_were_fitted(
    family: str, label_term: Literal["logistic", "boosting"]
) -> None:
    """On 10,000 rows of 60 wide features, near and far, the graph is the estimator up to 1e-5."""
    model = fitted_wide(family, 10, label_term)
    assert furthest(model, near_and_far(60, 10_000), 10) <= 1e-5
    contract = safety.check(model.onnx, 10)
    assert contract.width == 64


@pytest.mark.parametrize("signals", [1, 3, 10])
@pytest.mark.parametrize("family", WIDE)
def test_wide_features_have_the_same_bits_in_every_batch(family: str, signals: int) -> None:
    """No way of cutting the stream changes a bit of a score or of a share."""
    served, rows = served_as(fitted_wide(family, signals), signals), near_and_far(6 * signals, 2_100)
    assert {in_cuts(served, rows, size) for size in CUTS} == {in_cuts(served, rows, len(rows))}
    apart = np.concatenate([served.contributions(rows[at : at + 7]) for at in range(0, 210, 7)])
    assert apart.tobytes() == served.contributions(rows[:210]).tobytes()


@pytest.mark.parametrize("family", ["pca", "autoencoder"])
def test_a_signal_is_responsible_for_each_of_its_columns(family: str) -> None:
    """By closed form, a signal that moved in some block, whichever, has the largest share."""
    made = six_blocks(4)._replace(faulty=np.zeros(2_000, np.bool_))
    served = OnnxDetector(FAMILIES[family].fit(made).onnx, ["a", "b", "c", "d"])
    assert made.median is not None
    rows = np.tile(made.median.astype(np.float32), (24, 1))
    rows[np.arange(24), np.arange(24)] += 8.0 * made.scale()[1].astype(np.float32)
    shares = served.contributions(rows)
    assert np.allclose(shares.sum(axis=1), 1.0, atol=1e-5)
    assert (shares.argmax(axis=1) == np.arange(24) % 4).all()


def test_a_forest_on_wide_features_names_the_signal_that_moved() -> None:
    """Without a closed form, a signal that moved in all its columns has nearly the whole share."""
    made = six_blocks(4)._replace(faulty=np.zeros(2_000, np.bool_))
    served = OnnxDetector(FAMILIES["isolation-forest"].fit(made).onnx, ["a", "b", "c", "d"])
    assert made.median is not None
    rows = np.tile(made.median.astype(np.float32), (4, 1))
    for signal in range(4):
        rows[signal, np.arange(6) * 4 + signal] += 8.0
    assert (np.diag(served.contributions(rows)) > 0.9).all()


def test_principal_components_of_wide_features_do_not_depend_on_the_size_of_a_block() -> None:
    """A block whose values are all a hundredth, in training and later, gives the same scores."""
    made, size = six_blocks(4), np.repeat([1.0, 1.0, 2.0**-7, 1.0, 1.0, 1.0], 4)
    small = made._replace(features=made.features * size)
    rows = made.features[::7]
    np.testing.assert_allclose(FAMILIES["pca"].fit(small).score(rows * size), FAMILIES["pca"].fit(made).score(rows))


def test_distance_takes_no_wide_features() -> None:
    """The covariance of single readings says nothing of changes and spreads; the message says what to write."""
    with pytest.raises(ConfigError, match='write features = "evidence"'):
        FAMILIES["distance"].fit(six_blocks(3))


def test_sixty_features_make_an_autoencoder_of_16_4_16() -> None:
    """The size rule at 10 signals with wide features, padded: 64-16-8-16-64, of which 60-16-4-16-60 are not 0."""
    graph = onnx.load_from_string(fitted_wide("autoencoder", 10).onnx).graph
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if len(tensor.dims) == 2]
    layers = [weight for weight in weights if weight.shape != (64, 16) or np.unique(weight).size > 2]
    used = [tuple(int(weight.any(axis=axis).sum()) for axis in (1, 0)) for weight in layers]
    assert used == [(60, 16), (16, 4), (4, 16), (16, 60)]


@pytest.mark.parametrize(("family", "signals"), [*((name, 10) for name in EVERY), ("distance", 2), ("distance", 33)])
def test_a_boosted_label_term_is_exported_as_it_was_fitted(family: str, signals: int) -> None:
    """On 10,000 rows the graph is scikit-learn's estimator up to 1e-5, and to the bit in every batch."""
    model = fitted_boosting(family, signals)
    rows = near_and_far(signals, 10_000)
    assert furthest(model, rows, signals) <= 1e-5
    served = served_as(model, signals)
    assert {in_cuts(served, rows[:2_100], size) for size in CUTS} == {in_cuts(served, rows[:2_100], 2_100)}


def test_a_reading_on_a_cut_of_boosted_trees_takes_the_same_branch() -> None:
    """The float32 at, just below and just above every cut goes where the fitted trees send it."""
    model = fitted_boosting("distance", 10)
    node = next(n for n in onnx.load_from_string(model.onnx).graph.node if n.op_type == "TreeEnsembleRegressor")
    found = {attribute.name: attribute for attribute in node.attribute}
    branch = np.array([mode == b"BRANCH_LEQ" for mode in found["nodes_modes"].strings])
    cuts = onnx.numpy_helper.to_array(found["nodes_values_as_tensor"].t)[branch]
    near = np.zeros((len(cuts), 16), np.float32)
    near[np.arange(len(cuts)), np.array(found["nodes_featureids"].ints)[branch]] = cuts
    rows = np.concatenate([near, np.nextafter(near, np.float32(-9)), np.nextafter(near, np.float32(9))])
    rows[:, 10:] = 0.0
    assert furthest(model, rows, 10) <= 1e-5


def test_a_boosted_label_term_is_small_and_capped() -> None:
    """It adds between 0 and 3 nats to the family's own score, and tells the faulty from the healthy."""
    made = evidence(10)
    rows = made.features.astype(np.float32)
    own = detector("distance", 10, faulty=False).score(rows)
    added = served_as(fitted_boosting("distance", 10), 10).score(rows) - own
    assert added.min() >= -1e-4
    assert added.max() <= 3.0 + 1e-4
    assert added[made.faulty].mean() > 2.5
    assert added[made.healthy].mean() < 1.0


def test_a_boosted_label_term_asks_for_a_threshold_from_validation_vehicles() -> None:
    """Trees remember what they were fitted on; where no fault is known there are none, and nothing is asked."""
    assert fitted_boosting("distance", 10).threshold_from == "validation"
    assert fitted("distance", 10).threshold_from == "all"
    without = evidence(10, faulty=False)._replace(label_term="boosting")
    assert FAMILIES["distance"].fit(without).threshold_from == "all"
