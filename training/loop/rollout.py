"""A challenger beside the champion in a simulated year: the arms, and the looks that an experiment file asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anomaly.disk import replace_file
from anomaly.engine.model import Arm, Model
from anomaly.experiments.assignment import assign
from anomaly.experiments.compare import compare
from anomaly.experiments.controller import answer
from anomaly.experiments.file import Experiment, ExperimentArm, Guardrail, Primary
from anomaly.experiments.state import State, Taken
from anomaly.experiments.verdict import Look
from anomaly.feedback.labels import CONFIRMED
from anomaly.telemetry.records import Label
from training.experiments.past import Events, Seen, rows_of
from training.loop.file import LoopFile
from training.loop.world import DAY_MS, World

LABEL_DELAY_DAYS = 14.0
MIN_DAYS, MAX_DAYS = 7.0, 21.0


def experiment_file(name: str, control: str, treatment: str) -> Experiment:
    """The experiment that the loop writes: half of the vehicles; promoted if it surely raises at most three false
    alarms more in 1,000 vehicle-days; rolled back if it surely finds less or alarms more."""
    return Experiment(
        id=name,
        arms=[
            ExperimentArm(name="champion", role="control", share=0.5, model=control),
            ExperimentArm(name="challenger", role="treatment", share=0.5, model=treatment),
        ],
        primary=Primary(metric="false_alarms", margin=3.0, method="fixed", pre_period=False),
        guardrails=[Guardrail(metric="alerts", max_harm=0.01)],
        label_delay_days=LABEL_DELAY_DAYS,
        min_days=MIN_DAYS,
        max_days=MAX_DAYS,
        on_pass="promote",
        owner="loop",
    )


TEMPLATE = """# Written by `anomaly loop`: {treatment} against {control}.
id = "{id}"
label_delay_days = {file.label_delay_days}
min_days = {least}
max_days = {most}
min_vehicles = 2
on_pass = "hold"
on_fail = "rollback"
owner = "loop"

[[arms]]
name = "champion"
role = "control"
model = "{control}"
share = {rest}

[[arms]]
name = "challenger"
role = "treatment"
mode = "{mode}"
model = "{treatment}"
share = {share}

[primary]
metric = "false_alarms"
margin = {file.margin}
method = "fixed"               # read once, when min_days and label_delay_days are over

[[guardrails]]                 # absolute, and at once
metric = "alerts"
max_harm = {harm}

[[guardrails]]                 # relative, and for any number of events: a champion that is quiet has hardly any
metric = "false_alarms"
method = "first_event"
max_harm = {more}
"""
MORE = 0.5
"""So many more vehicles, as a part of the control's, may have a false alarm before the challenger surely does harm."""


def write_experiment(
    folder: Path, identity: str, models: tuple[str, str], mode: Literal["shadow", "live"], file: LoopFile
) -> None:
    """Write the experiment of a cycle, its models (control, treatment) by reference; it promotes nothing itself."""
    shadow = mode == "shadow"
    text = TEMPLATE.format(
        id=identity,
        control=models[0],
        treatment=models[1],
        mode=mode,
        file=file,
        least=file.shadow_days if shadow else file.min_days,
        most=3 * file.shadow_days if shadow else file.max_days,
        share=0.99 if shadow else 0.5,
        rest=0.01 if shadow else 0.5,
        harm=2 * file.margin / 1_000,
        more=MORE,
    )
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / f"{identity}.toml", text.encode())


class Trial:
    """An experiment that runs from the `day` of the year on."""

    def __init__(self, world: World, challenger: Model, day: int) -> None:
        self.world, self.challenger, self.began = world, challenger, day + 1
        self.file = experiment_file(f"{challenger.name.replace('/', '-')}", "year@champion", "year@challenger")
        position = assign(self.file, 1.0, self.file.id.encode())
        self._arm = np.array([position(name) or 0 for name in world.names], np.int8)
        self._place = {name: code for code, name in enumerate(world.names)}
        self._state = State(
            id=self.file.id, revision=1, digest=self.file.digest(), status="running", experiment=self.file,
            models={}, digests={}, steps=[Taken(share=1.0, at=0)], at=0,
        )  # fmt: skip

    def arms(self, champion: Model) -> list[Arm]:
        """The arms as the engine takes them."""
        return [Arm("champion", 0.5, champion), Arm("challenger", 0.5, self.challenger)]

    def assign(self, vehicle: str) -> int:
        """The arm of a vehicle."""
        return int(self._arm[self._place[vehicle]])

    def look(
        self, day: int, alerts: Sequence[tuple[int, int]], labels: Sequence[Label]
    ) -> tuple[Literal["promoted", "rolled_back", "held"], str] | None:
        """What becomes of it at the end of `day`; None: it goes on."""
        today = day + 1 - self.began
        if today < 1:
            return None
        rows = rows_of(self.file, self._seen(today, alerts, labels), self._arm, today, today - int(LABEL_DELAY_DAYS))
        self._state = answer(self._state, Look(compare(self.file, rows), today, 1))
        if self._state.status == "promoting":
            return "promoted", self._state.reason
        if self._state.status == "rolling_back":
            return "rolled_back", self._state.reason
        return ("held", self._state.reason) if today >= MAX_DAYS else None

    def _seen(self, days: int, alerts: Sequence[tuple[int, int]], labels: Sequence[Label]) -> Seen:
        """The experiment so far, by what was reported."""
        world = self.world
        since = world.begin + self.began * DAY_MS
        first, last = np.searchsorted(world.readings.ts, [since, since + days * DAY_MS])
        active = np.zeros((len(world.names), days), np.bool_)
        active[world.codes[first:last], (world.readings.ts[first:last] - since) // DAY_MS] = True
        confirmed = {(label.vehicle, label.end) for label in labels if label.verdict in CONFIRMED}
        own = [(code, ts) for code, ts in alerts if ts >= since]
        wrong = [(code, ts) for code, ts in own if (world.names[code], ts) not in confirmed]
        known = [
            (self._place[label.vehicle], label.end)
            for label in labels
            if label.verdict in CONFIRMED and label.end >= since
        ]
        told = {(code, ts) for code, ts in own}
        detected = np.array([one in told for one in known], np.bool_)
        return Seen(
            pa.array(world.names), active, _events(own, since), _events(wrong, since), _events(known, since),
            detected, np.zeros(len(known)),
        )  # fmt: skip


def _events(found: Sequence[tuple[int, int]], since: int) -> Events:
    pairs: NDArray[np.int64] = np.array(found, np.int64).reshape(-1, 2)
    return Events(pairs[:, 0], (pairs[:, 1] - since) // DAY_MS)
