"""What another setting, or training again and again, would have done to a past."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.frame import Frame
from anomaly.engine.model import Model, ThresholdPolicy
from anomaly.errors import DataError
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label, VehicleEvent
from training.auto import train
from training.backtest import backtest
from training.figures import Decided, Figures, headline
from training.history import History, known_at, make_history, split_vehicles, told_by_labels

ADAPTATIONS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)
FIRST_TRAINING = 1 / 3


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a past under one value of [threshold] adaptation."""

    adaptation: float
    figures: Figures


def sweep_adaptation(fleet: Fleet, frame: Frame, model: Model, history: History) -> list[Swept]:
    """The past under each value of the knob, 0 frozen to 1 without bound; k and all else stay those of the model."""
    return [
        Swept(
            adaptation=value,
            figures=backtest(
                fleet, frame, model._replace(policy=ThresholdPolicy.from_adaptation(value)), history
            ).figures,
        )
        for value in ADAPTATIONS
    ]


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """One training of a replayed past: what it knew, and the figures of the time until the next."""

    trained_at: int
    readings: int
    faults: int
    k: float
    figures: Figures


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """Training as it would have happened: the stretches one by one, and all of them together."""

    stretches: list[Stretch]
    figures: Figures


def replay_training(
    fleet: Fleet, batch: Batch, events: Sequence[VehicleEvent], labels: Sequence[Label], every: int
) -> Replayed:
    """Train on what was known after a third of the time, score the next `every` ticks, train again, and so on.

    Every training sees the readings and labels that had come by then, and keeps the first one's frame, so that
    vehicles keep their state. Raises DataError where not even one stretch can be scored.
    """
    whole = make_history(fleet, batch, events, labels, [])
    fleet, labels = told_by_labels(fleet, whole, labels)
    begin, end = int(batch.ts[0]), int(batch.ts[-1])
    times = range(begin + int(FIRST_TRAINING * (end - begin)), end, every)
    if not times:
        raise DataError(f"the past is over before a training: it lasts {end - begin} ticks; give a longer one")
    parts, stretches, frame = [], [], None
    for at in times:
        known = known_at(fleet, batch, events, labels, at)
        trained = train(fleet, known, split_vehicles(known.names, 0, None), 0, frame)
        frame = trained.frame
        detector = OnnxDetector(trained.onnx, frame.signals)
        model = Model("replayed/1", "replayed", detector, *trained[2:5], trained.checks, detector.abrupt)
        until = min(at + every, end)
        past = _until(whole, until)
        decided = _between(backtest(fleet, frame, model, past).decided, at, until)
        parts.append(decided)
        stretches.append(
            Stretch(
                trained_at=at,
                readings=len(known.batch),
                faults=len(known.faults),
                k=trained.k,
                figures=headline(decided, fleet),
            )
        )
    return Replayed(stretches=stretches, figures=headline(_joined(parts, whole, times[0]), fleet))


def _until(history: History, until: int) -> History:
    rows = np.flatnonzero(history.batch.ts <= until)
    return history._replace(batch=history.batch.take(rows), codes=history.codes[rows], health=history.health[rows])


def _between(decided: Decided, after: int, until: int) -> Decided:
    """The rows after one time and up to another, and the faults that ended there."""
    chosen = (decided.ts > after) & (decided.ts <= until)
    return decided.take(chosen)._replace(
        faults=[fault for fault in decided.faults if after < fault.end <= until],
        shifts=[shift for shift in decided.shifts if after < shift.opened <= until],
        cohorts=[alarm for alarm in decided.cohorts if after < alarm.opened <= until],
    )


def _joined(parts: Sequence[Decided], whole: History, after: int) -> Decided:
    return Decided(
        codes=np.concatenate([part.codes for part in parts]),
        ts=np.concatenate([part.ts for part in parts]),
        alarm=np.concatenate([part.alarm for part in parts]),
        warm=np.concatenate([part.warm for part in parts]),
        health=np.concatenate([part.health for part in parts]),
        faults=[fault for fault in whole.faults if fault.end > after],
        shifts=[shift for part in parts for shift in part.shifts],
        cohorts=[alarm for part in parts for alarm in part.cohorts],
    )
