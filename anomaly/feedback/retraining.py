"""The set that the next model is trained on: what was read and what was known up to a moment, nothing later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.engine import Restart
from anomaly.feedback.history import Past, health
from anomaly.feedback.labels import as_of
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label


class TrainingSet(NamedTuple):
    """Readings in order of time, the `health` of each (int8[n], see `history`), and the labels that said so."""

    batch: Batch
    health: NDArray[np.int8]
    labels: list[Label]


def training_set(
    readings: Batch, labels: Sequence[Label], restarts: Sequence[Restart], fleet: Fleet, cutoff: int
) -> TrainingSet:
    """What a training at `cutoff` may see of an archive (in order of time) and of all labels and restarts.

    Readings later than the cutoff, and labels reported later, are left out: whatever they say changes nothing.
    """
    known = as_of(labels, cutoff)
    batch = readings.take(np.flatnonzero(readings.ts <= cutoff))
    past = [restart for restart in restarts if restart.ts <= cutoff]
    return TrainingSet(batch, health(Past.of(batch), known, past, fleet.history), known)
