"""OnnxDetector: the score it promises, its bits, its contributions, and its place among River's detectors."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from river import checks, compose

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.model import ThresholdPolicy
from anomaly.errors import ModelError
from anomaly.thresholds.adaptive import AdaptiveThreshold
from tests.detectors.onnx_files import SIGNALS, distance, features, precision, wide

NAMES = [f"s{j}" for j in range(64)]


def in_cuts(detector: OnnxDetector, rows: np.ndarray, size: int) -> tuple[bytes, bytes]:
    """Scores and contributions of `rows` in batches of `size`, as bytes."""
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    scores = np.concatenate([detector.score(part) for part in parts])
    shares = np.concatenate([detector.contributions(part) for part in parts])
    return scores.tobytes(), shares.tobytes()


@pytest.mark.parametrize("contribution", [False, True])
@pytest.mark.parametrize(("width", "signals"), [(8, 3), (16, 10), (24, 20), (40, 33)])
def test_a_row_has_the_same_bits_in_every_batch(width: int, signals: int, contribution: bool) -> None:
    """With a width that is a multiple of 8, no way of cutting the stream changes a bit."""
    detector = OnnxDetector(distance(width, signals, contribution), NAMES[:signals])
    rows = features(2_100, width, signals)
    whole = in_cuts(detector, rows, len(rows))
    assert all(in_cuts(detector, rows, size) == whole for size in (1, 7, 64, 257, 1_024))


def test_without_padding_the_bits_depend_on_the_batch() -> None:
    """The control: at some width that is no multiple of 8 a row's score does depend on where it stands."""
    differs = []
    for width in (10, 15, 17):
        detector = OnnxDetector(distance(width, width), NAMES[:width])
        rows = features(2_100, width, width)
        differs.append(in_cuts(detector, rows, 7) != in_cuts(detector, rows, len(rows)))
    assert any(differs)


def test_the_score_is_that_of_the_formula() -> None:
    """The scores equal the distance computed in double precision, up to float32."""
    rows = features(500)
    exact = rows.astype(np.float64)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", exact, precision(8, 3), exact))
    assert np.allclose(OnnxDetector(distance(), SIGNALS).score(rows), expected, rtol=1e-5)


@pytest.mark.parametrize("contribution", [False, True])
def test_contributions_are_shares(contribution: bool) -> None:
    """One column a signal, none negative, rows sum to 1; a healthy row, with nothing to share, is uniform."""
    detector = OnnxDetector(distance(contribution=contribution), SIGNALS)
    rows = features(300)
    rows[0] = 0.0
    shares = detector.contributions(rows)
    assert shares.shape == (300, 3)
    assert (shares >= 0).all()
    assert np.allclose(shares.sum(axis=1), 1.0, atol=1e-6)
    assert np.allclose(shares[0], 1 / 3)


@pytest.mark.parametrize("contribution", [False, True])
def test_the_signal_that_is_wrong_has_the_largest_share(contribution: bool) -> None:
    """Where one signal alone deviates, it has the whole share, by closed form and by drop in score."""
    detector = OnnxDetector(distance(contribution=contribution), SIGNALS)
    rows = np.zeros((3, 8), np.float32)
    rows[[0, 1, 2], [0, 1, 2]] = 5.0
    assert np.allclose(detector.contributions(rows), np.eye(3))


def test_no_reading_is_a_batch_too() -> None:
    """An empty batch gives an empty answer."""
    detector = OnnxDetector(distance(), SIGNALS)
    assert detector.score(features(0)).shape == (0,)
    assert detector.contributions(features(0)).shape == (0, 3)


def test_one_reading_at_a_time_scores_the_same() -> None:
    """River's way, a dictionary a reading, gives the bits of the batch; a missing signal is at its median."""
    detector = OnnxDetector(distance(), SIGNALS)
    rows = features(50)
    rows[:, 1] = 0.0
    one = [detector.score_one({"a": row[0], "c": row[2]}) for row in rows.tolist()]
    assert np.array(one, np.float32).tobytes() == detector.score(rows).tobytes()


def test_it_works_in_a_pipeline_and_under_an_adaptive_threshold() -> None:
    """Behind a transformer and inside AdaptiveThreshold it classifies; learning changes the threshold alone."""
    filtered = AdaptiveThreshold(OnnxDetector(distance(), SIGNALS), 3.0, 2.0, ThresholdPolicy(0.1, 0.02, 1.3))
    pipeline = compose.Select(*SIGNALS) | filtered
    reading = {"a": 0.1, "b": 0.0, "c": 0.0, "other": 9.0}
    before = pipeline.score_one(reading)
    for _ in range(200):
        pipeline.learn_one(reading)
    assert pipeline.score_one(reading) == before
    assert filtered.threshold == pytest.approx(2.7)
    assert pipeline.clone()["AdaptiveThreshold"].threshold == pytest.approx(3.0)


def local_sample(_model: object, scale: int = 1) -> Iterator[list[tuple[dict[str, float], int]]]:
    """What River's checks would download: deviations of three signals, one in fifty large."""
    generator = np.random.default_rng(11)
    wrong = generator.random(200 * scale) < 0.02
    points = generator.normal(0.0, 1.0, (len(wrong), 3)) + 6.0 * wrong[:, None]
    yield [(dict(zip(SIGNALS, row, strict=True)), int(y)) for row, y in zip(points.tolist(), wrong, strict=True)]


def test_it_passes_rivers_own_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of River's checks for detectors pass, those on data with a local sample."""
    monkeypatch.setattr(checks, "_yield_datasets", local_sample)
    detector = OnnxDetector(distance(), SIGNALS)
    names = {check.__name__ for check in checks.yield_checks(detector)}
    assert {"check_roc_auc", "check_disappearing_features", "check_clone_is_independent"} <= names
    checks.check_estimator(detector)


def test_a_model_that_is_none_is_refused() -> None:
    """Bytes that are no model, features of another width and another type are refused in words."""
    with pytest.raises(ModelError, match="ONNX Runtime refuses"):
        OnnxDetector(b"not a model", SIGNALS)
    with pytest.raises(ModelError, match=r"a width of 9 or 54 or 36 for 9 signals"):
        OnnxDetector(distance(), NAMES[:9])
    with pytest.raises(ModelError, match=r"float32\[n, 8\], not float64\[4, 8\]"):
        OnnxDetector(distance(), SIGNALS).score(features(4).astype(np.float64))


@pytest.mark.parametrize("width", [11, 26, 32, 64])
def test_features_are_a_block_or_four_or_six(width: int) -> None:
    """A width that is none of one, four or six columns a signal, up to 7 of padding apart, is refused with what is."""
    with pytest.raises(ModelError, match="a width of 3 or 18 or 12 for 3 signals, or up to 7 more"):
        OnnxDetector(distance(width, 3), SIGNALS)


def test_wide_features_are_six_columns_a_signal() -> None:
    """The columns of wide features are named after block and signal, those of evidence after the signal."""
    columns = OnnxDetector(wide(None), SIGNALS).columns
    assert len(columns) == 18
    assert (columns[0], columns[4], columns[17]) == ("deviation.a", "change.b", "spread.c")
    assert OnnxDetector(distance(), SIGNALS).columns == SIGNALS


def test_a_drop_in_score_is_of_all_columns_of_a_signal_at_their_medians() -> None:
    """Where a median is not 0, a column there has no part in the score's drop, and a column at 0 has."""
    median = [0.0] * 15 + [1.0] * 3 + [0.0] * 6
    detector = OnnxDetector(wide(json.dumps(median)), SIGNALS)
    row = np.array([median], np.float32)
    row[0, [0, 7, 10]] = [1.0, 2.0, 5.0]
    assert np.allclose(detector.contributions(row), [[1 / 8, 7 / 8, 0.0]])
    unaware = OnnxDetector(wide(None), SIGNALS)
    assert np.allclose(unaware.contributions(row), [[2 / 11, 8 / 11, 1 / 11]])


def test_one_reading_of_wide_features_scores_the_same() -> None:
    """By name of its columns a reading scores as in a batch; what is missing is at its median."""
    detector = OnnxDetector(wide(json.dumps([0.0] * 15 + [1.0] * 3 + [0.0] * 6)), SIGNALS)
    assert detector.score_one({"change.b": -2.0, "spread.a": 4.0}) == 2.0 + 4.0 + 1.0 + 1.0


def test_for_one_signal_the_median_tells_wide_features() -> None:
    """Evidence and wide features of a single signal are both 8 columns wide."""
    assert OnnxDetector(distance(8, 1), ["a"]).columns == ("a",)
    assert len(OnnxDetector(wide(json.dumps([0.0] * 8), 1), ["a"]).columns) == 6


@pytest.mark.parametrize("median", ["", "{}", "[1.0, 2.0]", "[1e39" + ", 0.0" * 23 + "]", "[" * 1_000])
def test_medians_that_are_none_are_refused(median: str) -> None:
    """Metadata that is no list of as many finite numbers as there are columns is refused."""
    with pytest.raises(ModelError, match="`median` in the model's metadata"):
        OnnxDetector(wide(median), SIGNALS)
