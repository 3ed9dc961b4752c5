"""The volume under precision and recall, on hand-made cases and against a slow direct computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.suites.vus import THRESHOLDS, range_auc_pr, vus_pr

LABELS = np.zeros(400, np.bool_)
LABELS[100:120] = LABELS[300:310] = True


def direct(scores: list[float], labels: list[bool], length: int) -> float:
    """The published definition, threshold by threshold and point by point."""
    n = len(scores)
    runs = [i for i in range(n) if labels[i] and (i == 0 or not labels[i - 1])]
    ends = [next(j for j in range(i, n) if j == n - 1 or not labels[j + 1]) for i in runs]
    faded = [float(label) for label in labels]
    for start, end in zip(runs, ends, strict=True):
        for i in range(max(start - length // 2, 0), start):
            faded[i] += math.sqrt(1 - (start - i) / length)
        for i in range(end, min(end + length // 2, n)):
            faded[i] += math.sqrt(1 - (i - end) / length)
    faded = [min(label, 1.0) for label in faded]
    pieces, inside = [], False
    for i, label in enumerate(faded):
        if label > 0 and not inside:
            pieces.append([])
        inside = label > 0
        if inside:
            pieces[-1].append(i)
    area = before = 0.0
    for rank in np.linspace(0, n - 1, THRESHOLDS).astype(int):
        threshold = sorted(scores, reverse=True)[rank]
        alarms = [i for i in range(n) if scores[i] >= threshold]
        hits = sum(faded[i] for i in alarms)
        touched = sum(any(scores[i] >= threshold for i in piece) for piece in pieces) / len(pieces)
        recall = min(hits / ((sum(labels) + sum(faded)) / 2), 1.0) * touched
        area += (recall - before) * hits / len(alarms)
        before = recall
    return area


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(0, 30))
def test_it_is_the_definition(seed: int, length: int) -> None:
    """A slow direct computation gives the same area, with ties among the scores."""
    rng = np.random.default_rng(seed)
    labels = np.convolve(rng.random(300) < 0.02, np.ones(9), "same") > 0
    labels[150] = True
    scores = rng.integers(0, 100, 300) / 100 + 0.3 * labels
    assert range_auc_pr(scores, labels, length) == pytest.approx(direct(scores.tolist(), labels.tolist(), length))


def test_a_perfect_score_has_nearly_all_of_the_area() -> None:
    """Scores that are the labels themselves lose hardly anything without a buffer, and little with one."""
    scores = LABELS + np.random.default_rng(0).random(400) / 10
    assert range_auc_pr(scores, LABELS, 0) > 0.99
    assert 0.8 < vus_pr(scores, LABELS, 20) <= 1.0


def test_a_random_score_stays_near_the_base_rate() -> None:
    """The mean area of random scores is near the share of labelled points, and no score is praised for a lucky hit."""
    rng = np.random.default_rng(1)
    areas = [vus_pr(rng.random(400), LABELS, 0) for _ in range(50)]
    assert abs(float(np.mean(areas)) - LABELS.mean()) < 0.04


def test_an_alarm_just_beside_counts_with_a_buffer_only() -> None:
    """Scores that come four points late lose less the longer the buffer."""
    late = np.roll(LABELS, 4) + np.random.default_rng(2).random(400) / 10
    assert range_auc_pr(late, LABELS, 0) < range_auc_pr(late, LABELS, 16)


def test_without_an_anomaly_there_is_no_area() -> None:
    """NaN, as there is nothing to find."""
    assert math.isnan(vus_pr(np.ones(10), np.zeros(10, np.bool_), 3))
