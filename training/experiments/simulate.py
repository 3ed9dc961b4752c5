"""An experiment file on the fleet's own past, hundreds of times: how often it promotes, holds or rolls back."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from anomaly.experiments.assignment import arms_of, buckets, keys
from anomaly.experiments.compare import compare
from anomaly.experiments.controller import answer
from anomaly.experiments.file import Experiment
from anomaly.experiments.state import State, Taken
from anomaly.experiments.verdict import Look
from training.experiments.past import Events, Seen, rows_of


class Effect(NamedTuple):
    """What the treatment does to a vehicle: false alarms times 1 + `false_alarms`, each found fault missed with the
    probability `missed`."""

    false_alarms: float = 0.0
    missed: float = 0.0


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the runs: shares of them, and the median of the days until they ended (None: none did)."""

    runs: int
    vehicles: int
    promoted: float
    rolled_back: float
    held: float
    days_to_promotion: float | None
    days_to_rollback: float | None


def simulate(experiment: Experiment, seen: Seen, effect: Effect, runs: int) -> Simulated:
    """Replay the past `runs` times with fresh assignments, a look a day, and the file's own rules.

    The past is begun at a drawn day and goes round until `max_days` are over. A treatment with `on_pass = "hold"`
    counts as promoted where it passed. The runs are seeded.
    """
    ends = [_run(experiment, _drawn(seen, experiment, seed), effect, seed) for seed in range(runs)]
    by = {status: [day for found, day in ends if found == status] for status in ("promoting", "rolling_back")}
    share = {status: len(days) / runs for status, days in by.items()}
    return Simulated(
        runs=runs,
        vehicles=len(seen.names),
        promoted=share["promoting"],
        rolled_back=share["rolling_back"],
        held=1.0 - sum(share.values()),
        days_to_promotion=_median(by["promoting"]),
        days_to_rollback=_median(by["rolling_back"]),
    )


def _median(days: list[int]) -> float | None:
    return float(np.median(days)) if days else None


def _drawn(seen: Seen, experiment: Experiment, seed: int) -> Seen:
    """`max_days` days of the past, begun at a drawn day and going round."""
    rng, days = np.random.default_rng([7, seed]), seen.days
    start, wanted = int(rng.integers(days)), int(experiment.max_days) + int(experiment.label_delay_days) + 2
    order = (start + np.arange(wanted)) % days
    rounds = range(-(-wanted // days))

    def again(events: Events) -> Events:
        first = (events.day - start) % days
        day = np.concatenate([first + days * one for one in rounds])
        return Events(np.tile(events.vehicle, len(rounds)), day)

    return Seen(
        seen.names,
        seen.active[:, order],
        again(seen.alerts),
        again(seen.false_alarms),
        again(seen.faults),
        np.tile(seen.detected, len(rounds)),
        np.tile(seen.lead_days, len(rounds)),
    )


def _changed(seen: Seen, treated: np.ndarray, effect: Effect, rng: np.random.Generator) -> Seen:
    """The past as it would have been with the treatment's effect on the vehicles that are treated."""
    alerts, false_alarms = (
        _times(events, treated, effect.false_alarms, rng) for events in (seen.alerts, seen.false_alarms)
    )
    lost = treated[seen.faults.vehicle] & (rng.random(len(seen.detected)) < effect.missed)
    return seen._replace(
        alerts=alerts,
        false_alarms=false_alarms,
        detected=seen.detected & ~lost,
        lead_days=np.where(lost, 0.0, seen.lead_days),
    )


def _times(events: Events, treated: np.ndarray, change: float, rng: np.random.Generator) -> Events:
    """The events of treated vehicles times 1 + change: thinned, or some of them twice."""
    drawn = treated[events.vehicle] & (rng.random(len(events.day)) < abs(change) % 1.0)
    if change < 0:
        return events.of(~drawn)
    more = [events, *[events.of(treated[events.vehicle])] * int(change), events.of(drawn)]
    return Events(np.concatenate([one.vehicle for one in more]), np.concatenate([one.day for one in more]))


def _run(experiment: Experiment, seen: Seen, effect: Effect, seed: int) -> tuple[str, int]:
    """What the file comes to on one draw, and on which day."""
    layer, own = buckets(keys(experiment, b"simulated %d" % seed), seen.names.to_pylist())
    arm = arms_of(experiment, 1.0, layer, own)
    seen = _changed(seen, arm == experiment.arms.index(experiment.treatment), effect, np.random.default_rng([8, seed]))
    state = _begun(experiment)
    for day in range(1, seen.days):
        now = np.where(arms_of(experiment, state.share, layer, own) >= 0, arm, np.int8(-1)).astype(np.int8)
        rows = rows_of(experiment, seen, now, day, day - int(experiment.label_delay_days))
        state = answer(state, Look(compare(experiment, rows), day, 1))
        if state.status != "running":
            return state.status, day
        if state.verdict == "pass":
            return "promoting", day
        if state.verdict == "fail":
            return "rolling_back", day
    return "running", seen.days


def _begun(experiment: Experiment) -> State:
    return State(
        id=experiment.id,
        revision=experiment.revision,
        digest=experiment.digest(),
        status="running",
        experiment=experiment,
        models={},
        digests={},
        steps=[Taken(share=experiment.ramp[0].share, at=0)],
        at=0,
    )
