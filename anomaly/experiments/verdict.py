"""From a comparison to one of three verdicts, with its reason in a sentence."""

from __future__ import annotations

from typing import NamedTuple

from anomaly.experiments.compare import Comparison, Reading, Result
from anomaly.experiments.file import Experiment
from anomaly.experiments.metrics import RATIOS
from anomaly.experiments.state import State

DIFFER_TOO_LITTLE = "the shadow and the model that acts differ on too few vehicles for a verdict"


class Verdict(NamedTuple):
    """What a comparison means, and why, in a sentence; `read` if a fixed read-out was taken for it."""

    result: Result
    reason: str
    read: bool = False


class Look(NamedTuple):
    """A comparison, and when it was made: `at` in the fleet's time unit, of which a day has `ticks_per_day`."""

    comparison: Comparison
    at: int
    ticks_per_day: int


def decide(experiment: Experiment, state: State, look: Look) -> Verdict:
    """What the comparison means. A guardrail may fail at any time; the primary is read when all of it is there.

    A fixed read-out is taken once: after that its verdict stays.
    """
    for guardrail in look.comparison.guardrails:
        if guardrail.result == "fail":
            return Verdict("fail", _said(guardrail))
    if state.read_at is not None and state.verdict is not None:
        return Verdict(state.verdict, state.reason)
    if look.comparison.split.broken:
        split = look.comparison.split
        return Verdict(
            "inconclusive",
            f"{split.control} vehicles in the control and {split.treatment} in the treatment are not the promised "
            f"split ({split.share:.0%} in the treatment): find out why before anything is concluded",
        )
    missing = _missing(experiment, state, look)
    if missing:
        return Verdict("inconclusive", missing)
    return _of_primary(experiment, state, look)


def _of_primary(experiment: Experiment, state: State, look: Look) -> Verdict:
    primary = look.comparison.primary
    read = primary.method == "fixed"
    if primary.low is None and look.comparison.beside is not None:
        return Verdict("inconclusive", f"{primary.metric}: {DIFFER_TOO_LITTLE}", read)
    if primary.low is None:
        few = min(primary.control_events, primary.treatment_events)
        return Verdict("inconclusive", f"{primary.metric}: {few:.0f} events in an arm are too few", read)
    said = _said(primary)
    if primary.result == "fail":
        return Verdict("fail", said, read)
    if primary.result == "pass":
        against = next(filter(None, map(doubt, look.comparison.guardrails)), None)
        return Verdict("inconclusive", against, read) if against else Verdict("pass", said, read)
    late = days_since(state.steps[0].at, look) > experiment.max_days
    return Verdict("inconclusive", f"{said}{', and max_days have passed' if late else ''}", read)


def days_since(ts: int, look: Look) -> float:
    """Days from `ts` to the look."""
    return (look.at - ts) / look.ticks_per_day


def _missing(experiment: Experiment, state: State, look: Look) -> str | None:
    """What has to be there before the primary is read."""
    if len(state.steps) < len(experiment.ramp):
        return f"step {len(state.steps)} of {len(experiment.ramp)} of the ramp"
    needed = experiment.min_days + experiment.label_delay_days
    days = days_since(state.steps[0].at, look)
    if days < needed:
        return f"{days:.1f} of {needed:g} days (min_days and label_delay_days)"
    fewest = min(arm.vehicles for arm in look.comparison.arms)
    if fewest < experiment.min_vehicles:
        return f"{fewest} vehicles in the smaller arm, {experiment.min_vehicles} needed"
    return None


def _said(reading: Reading) -> str:
    if reading.log_e is not None:
        excess = "vehicles with one in the treatment alone" if reading.harm is None else f"{reading.harm:+.0%} vehicles"
        return (
            f"{reading.metric}: {excess}, {reading.limit:.0%} allowed; {reading.control_events:.0f} vehicles in the "
            f"control and {reading.treatment_events:.0f} in the treatment had one"
        )
    unit = RATIOS[reading.metric].unit
    return (
        f"{reading.metric}: harm between {_shown(reading.low)} and {_shown(reading.high)} {unit}, "
        f"{reading.limit:g} allowed"
    )


def doubt(reading: Reading) -> str | None:
    """Why a guardrail stands against a promotion although it did not fail."""
    if reading.method == "first_event":
        few = reading.control_events + reading.treatment_events
        seems = reading.harm is not None and reading.harm > reading.limit and few >= 10
        return f"{reading.metric} seems worse: {_said(reading)}" if seems else None
    if reading.harm is None:
        return f"{reading.metric}: nothing is known of it in one of the arms"
    if reading.harm > reading.limit:
        return f"{reading.metric} seems worse by {reading.harm:.3g}, {reading.limit:g} allowed"
    return None


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
