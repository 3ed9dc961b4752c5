"""What a row of a suite is judged on, and what comes of it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.frame import Frame
from anomaly.engine.model import Model
from anomaly.fleet import Fleet
from training.auto import train
from training.backtest import Backtest, backtest
from training.figures import Decided
from training.fit import Trained
from training.history import History, Split


class Case(NamedTuple):
    """One split or seed: `past` holds the vehicles of `split.train` and `split.validation`, and others that only belong
    to their cohorts, `test` the judged ones."""

    fleet: Fleet
    past: History
    split: Split
    test: History
    seed: int = 0

    def at(self, budget: float) -> Case:
        """The same at another budget, in false-alarm episodes per 1,000 healthy vehicle-days."""
        return self.with_fleet(threshold=msgspec.structs.replace(self.fleet.threshold, false_alarms=budget))

    def with_fleet(self, **tables: object) -> Case:
        """The same with other tables of the fleet file."""
        return self._replace(fleet=msgspec.structs.replace(self.fleet, **tables))


class Played(NamedTuple):
    """What a row decided on the test vehicles: one `level` (score over threshold) beside each reading of `decided`; and
    the false alarms per 1,000 healthy vehicle-days that it had on the validation vehicles, if it chose a threshold."""

    decided: Decided
    level: NDArray[np.float32]
    validation: float | None = None


def split_case(fleet: Fleet, history: History, split: Split, seed: int = 0) -> Case:
    """A case out of one history, as `train --split` and `backtest --split` divide it."""
    return Case(fleet, history.of([*split.train, *split.validation]), split, history.of(split.test), seed)


def train_and_test(case: Case, frame: Frame | None = None) -> tuple[Played, Trained]:
    """`train`, then `backtest` on the test vehicles; `frame` is used instead of a new one."""
    trained = train(case.fleet, case.past, case.split, case.seed, frame)
    return test(case, trained), trained


def test(case: Case, trained: Trained) -> Played:
    """`backtest` of a trained model on the test vehicles."""
    result = play(case.fleet, trained, case.test)
    level = result.decisions["level"].to_numpy().astype(np.float32)
    return Played(result.decided, level, trained.figures.false_alarms_per_1000_days)


def play(fleet: Fleet, trained: Trained, history: History) -> Backtest:
    """`backtest` of a trained model on a history."""
    detector = OnnxDetector(trained.onnx, trained.frame.signals)
    model = Model("suite/1", "suite", detector, *trained[2:5], trained.checks, detector.abrupt)
    return backtest(fleet, trained.frame, model, history)
