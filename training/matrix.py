"""What the engine makes of a history, for whoever fits or calibrates on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.layout import NEVER
from anomaly.fleet import Fleet
from training.history import History


class Matrix(NamedTuple):
    """What the engine made of a history, one row a reading: `features`, `warm` (past burn-in), `ill` (in burn-in, how
    far it is from how vehicles are born), `rank` among its vehicle's readings, `gap` the time since the one before in
    the vehicle's own rhythms (0: not known); `kept` are the history's rows that were
    accepted."""

    features: NDArray[np.float32]
    warm: NDArray[np.bool_]
    ill: NDArray[np.float32]
    kept: NDArray[np.int64]
    rank: NDArray[np.int64]
    gap: NDArray[np.float32]


def build_matrix(fleet: Fleet, frame: Frame, history: History) -> Matrix:
    """The history through the engine that also scores live: the same features, bit for bit."""
    engine = Engine(fleet, frame)
    engine.add_events(history.events)
    observed = [engine.features(chunk) for chunk in history.chunks()]
    status = np.concatenate([part.status for part in observed])
    kept = np.flatnonzero(status <= 1)
    features = np.concatenate([part.features for part in observed])[kept]
    ill = np.concatenate([part.ill for part in observed])[kept]
    since, rhythm = (np.concatenate([getattr(part, name) for part in observed])[kept] for name in ("since", "rhythm"))
    known = (since != NEVER) & (rhythm > 0)
    gap = np.where(known, (history.batch.ts[kept] - np.where(known, since, 0)) / np.where(known, rhythm, 1), 0)
    rank = rank_within(history.codes[kept])
    return Matrix(features, status[kept] == 0, ill, kept, rank, gap.astype(np.float32))


def rank_within(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each row among those of its vehicle."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    rank = np.empty(len(codes), np.int64)
    rank[order] = np.arange(len(codes)) - np.searchsorted(ordered, ordered, side="left")
    return rank
