"""Scores of a single stream of values that the product has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.suites.baselines import Seen, gaussian

Floats = NDArray[np.float64]
WINDOW, BURN_IN = 500, 30


def gaussian_score(values: Floats, frozen: bool) -> Floats:
    """The row `Gaussian` of the other tables on one stream, in spreads of its first BURN_IN values."""
    first = values[:BURN_IN]
    z = ((values - first.mean()) / (first.std() + 1e-9))[:, None]
    none, one = np.zeros(len(z), np.int64), np.ones(len(z), np.bool_)
    seen = Seen(z, z, none, np.arange(len(z)), one, none.astype(np.int8), np.arange(len(z)))
    return gaussian(seen, BURN_IN, frozen)


def z_score(values: Floats) -> Floats:
    """|x - mean| / spread of the WINDOW values before each; 0 for the first ones."""
    past = np.lib.stride_tricks.sliding_window_view(values, WINDOW)[:-1]
    score = np.zeros(len(values))
    score[WINDOW:] = np.abs(values[WINDOW:] - past.mean(axis=1)) / (past.std(axis=1) + 1e-9)
    return score


def half_space_trees(values: Floats) -> Floats:
    """River's half-space trees on the value, scaled by the smallest and largest so far; score first, then learn."""
    from river.anomaly import HalfSpaceTrees
    from river.preprocessing import MinMaxScaler

    scaler, trees = MinMaxScaler(), HalfSpaceTrees(seed=0)
    score = np.zeros(len(values))
    for place, value in enumerate(values.tolist()):
        scaler.learn_one({"value": value})
        x = scaler.transform_one({"value": value})
        score[place] = trees.score_one(x)
        trees.learn_one(x)
    return score
