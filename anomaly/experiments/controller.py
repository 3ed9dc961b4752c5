"""From a comparison to a verdict, and from a verdict to what is done about it.

The rules are plain: a bootstrap interval over vehicles, read only after the time and the vehicles that the file
demands, and nothing concluded from fewer than 10 events.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from anomaly.errors import ConfigError
from anomaly.experiments.compare import Comparison, Result
from anomaly.experiments.file import Experiment, Guardrail
from anomaly.experiments.state import Entry, State, Status, Taken, add_entry, read_state, write_state
from anomaly.registry.store import Registry

MIN_EVENTS = 10
"""With fewer false alarms, alerts or found faults in both arms together, nothing is concluded from them."""


class Verdict(NamedTuple):
    """What a comparison means, and why, in a sentence."""

    result: Result
    reason: str


class Look(NamedTuple):
    """A comparison, and when it was made: `at` in the fleet's time unit, of which a day has `ticks_per_day`."""

    comparison: Comparison
    at: int
    ticks_per_day: int


class Effects(NamedTuple):
    """What is done outside: each takes the treatment's model ("fleet/4") and the reason.

    Both may be called a second time after a crash, and must then do nothing more.
    """

    promote: Callable[[str, str], None]
    roll_back: Callable[[str, str], None]


def registry_effects(registry: Registry) -> Effects:
    """Promotion makes the model champion, no longer challenger; rolling back takes from it whatever alias it has."""

    def promote(reference: str, reason: str) -> None:
        entry = registry.resolve(reference)
        if registry.aliases(entry.fleet).get("champion") != entry.number:
            registry.promote(entry.fleet, entry.number, reason)
        if registry.aliases(entry.fleet).get("challenger") == entry.number:
            registry.set_alias(entry.fleet, "challenger", None, reason)

    def roll_back(reference: str, reason: str) -> None:
        entry = registry.resolve(reference)
        aliases = registry.aliases(entry.fleet)
        if aliases.get("champion") == entry.number:
            registry.rollback(entry.fleet, reason)
        if aliases.get("challenger") == entry.number:
            registry.set_alias(entry.fleet, "challenger", None, reason)

    return Effects(promote, roll_back)


def begin(folder: Path, experiment: Experiment, at: int, pin: Callable[[str], str]) -> State:
    """Begin the experiment's revision, or find it begun: the first step of the ramp, each arm's model pinned.

    `pin` answers the reference of a model that stays what it is ("fleet/4" for "fleet@challenger"). Raises
    ConfigError if the file of a revision was changed after it began, or its models cannot be told apart.
    """
    known = read_state(folder, experiment.id)
    if known is not None and known.revision == experiment.revision:
        check_unchanged(experiment, known)
        return known
    models = {arm.name: pin(arm.model) for arm in experiment.arms}
    if len(set(models.values())) < len(models):
        raise ConfigError(f"experiment {experiment.id}: both arms are {experiment.control.model}; name two models")
    state = State(
        id=experiment.id,
        revision=experiment.revision,
        digest=experiment.digest(),
        status="running",
        models=models,
        steps=[Taken(share=experiment.ramp[0].share, at=at)],
        at=at,
    )
    _write(folder, state, f"began at {experiment.ramp[0].share:.0%} of the vehicles")
    return state


def check_unchanged(experiment: Experiment, state: State) -> None:
    """Raises ConfigError if the file of a revision says something else than when it began."""
    if state.digest != experiment.digest():
        raise ConfigError(
            f"experiment {experiment.id}: revision {experiment.revision} was changed after it began; "
            f"take the change back, or make it revision {experiment.revision + 1}"
        )


def decide(experiment: Experiment, state: State, look: Look) -> Verdict:
    """What the comparison means. A guardrail may fail at any time; the primary is read when all of it is there."""
    for guardrail in experiment.guardrails:
        low = look.comparison.of(guardrail.metric).low
        if low is not None and low > guardrail.max_harm and _enough(guardrail, look.comparison):
            return Verdict("fail", f"{guardrail.metric} is worse by at least {low:.3g}, {guardrail.max_harm:g} allowed")
    missing = _missing(experiment, state, look)
    if missing:
        return Verdict("inconclusive", missing)
    primary, margin = look.comparison.of(experiment.primary.metric), experiment.primary.margin
    if primary.low is None or primary.high is None or primary.events < MIN_EVENTS:
        return Verdict(
            "inconclusive", f"{primary.metric}: {primary.events:.0f} events are too few, {MIN_EVENTS} needed"
        )
    between = f"{primary.metric}: harm between {primary.low:.3g} and {primary.high:.3g}, {margin:g} allowed"
    if primary.low > margin:
        return Verdict("fail", between)
    if primary.high < margin:
        doubt = next(filter(None, (_doubt(guardrail, look.comparison) for guardrail in experiment.guardrails)), None)
        return Verdict("inconclusive", doubt) if doubt else Verdict("pass", between)
    late = (look.at - state.steps[0].at) / look.ticks_per_day > experiment.max_days
    return Verdict("inconclusive", f"{between}{', and max_days have passed' if late else ''}")


def act(folder: Path, experiment: Experiment, look: Look, effects: Effects) -> State:
    """Decide, and do what the file says about the verdict; answers the state that is written by then.

    Each act is on the audit trail and in the state before its effect, so that after a crash the next call finishes
    it. An experiment that is over is left as it is. Raises ConfigError if the experiment has not begun.
    """
    state = read_state(folder, experiment.id)
    if state is None or state.revision != experiment.revision:
        raise ConfigError(f"experiment {experiment.id}: revision {experiment.revision} has not begun")
    check_unchanged(experiment, state)
    if state.status == "running":
        state = _answer(folder, experiment, state, look)
    return _finish(folder, experiment, state, effects)


def _answer(folder: Path, experiment: Experiment, state: State, look: Look) -> State:
    """The state after a verdict, written down, with nothing done outside yet."""
    verdict = decide(experiment, state, look)
    status: Status = "running"
    if verdict.result == "pass" and experiment.on_pass == "promote":
        status = "promoting"
    elif verdict.result == "fail" and experiment.on_fail == "rollback":
        status = "rolling_back"
    state = msgspec.structs.replace(
        state,
        status=status,
        at=look.at,
        verdict=verdict.result,
        reason=verdict.reason,
        evidence=look.comparison,
        steps=[*state.steps, *_next_step(experiment, state, look)] if status == "running" else state.steps,
    )
    _write(folder, state, f"{verdict.result}: {status} at {state.share:.0%}")
    return state


def _finish(folder: Path, experiment: Experiment, state: State, effects: Effects) -> State:
    model = state.models[experiment.treatment.name]
    reason = f"experiment {state.id}, revision {state.revision}: {state.reason}"
    if state.status == "promoting":
        effects.promote(model, reason)
        state = msgspec.structs.replace(state, status="promoted")
        _write(folder, state, f"promoted {model}")
    elif state.status == "rolling_back":
        effects.roll_back(model, reason)
        state = msgspec.structs.replace(state, status="rolled_back")
        _write(folder, state, f"rolled {model} back")
    return state


def stop(folder: Path, experiment: str, at: int, reason: str) -> State:
    """End an experiment by hand: everybody scores with the champion again. Raises ConfigError if there is none."""
    state = read_state(folder, experiment)
    if state is None:
        raise ConfigError(f"experiment {experiment} has not begun in {folder}")
    state = msgspec.structs.replace(state, status="stopped", at=at, reason=reason)
    _write(folder, state, "stopped")
    return state


def _next_step(experiment: Experiment, state: State, look: Look) -> list[Taken]:
    """The next step of the ramp, if there is one and the current one lasted long enough."""
    place = len(state.steps) - 1
    if place + 1 >= len(experiment.ramp):
        return []
    step = experiment.ramp[place]
    days = (look.at - state.steps[-1].at) / look.ticks_per_day
    vehicles = sum(arm.vehicles for arm in look.comparison.arms)
    if days < step.min_days or vehicles < step.min_vehicles:
        return []
    return [Taken(share=experiment.ramp[place + 1].share, at=look.at)]


def _missing(experiment: Experiment, state: State, look: Look) -> str | None:
    """What has to be there before the primary is read."""
    if len(state.steps) < len(experiment.ramp):
        return f"step {len(state.steps)} of {len(experiment.ramp)} of the ramp"
    needed = experiment.min_days + experiment.label_delay_days
    days = (look.at - state.steps[0].at) / look.ticks_per_day
    if days < needed:
        return f"{days:.1f} of {needed:g} days (min_days and label_delay_days)"
    fewest = min(arm.vehicles for arm in look.comparison.arms)
    if fewest < experiment.min_vehicles:
        return f"{fewest} vehicles in the smaller arm, {experiment.min_vehicles} needed"
    return None


def _enough(guardrail: Guardrail, comparison: Comparison) -> bool:
    return comparison.of(guardrail.metric).events >= MIN_EVENTS


def _doubt(guardrail: Guardrail, comparison: Comparison) -> str | None:
    """Why a guardrail stands against a promotion although it did not fail."""
    harm = comparison.of(guardrail.metric).harm
    if harm is None:
        return f"{guardrail.metric}: nothing is known of it in one of the arms"
    if harm > guardrail.max_harm:
        return f"{guardrail.metric} seems worse by {harm:.3g}, {guardrail.max_harm:g} allowed"
    return None


def _write(folder: Path, state: State, act: str) -> None:
    add_entry(
        folder,
        Entry(
            at=state.at,
            id=state.id,
            revision=state.revision,
            act=act,
            reason=state.reason,
            evidence=state.evidence,
        ),
    )
    write_state(folder, state)
