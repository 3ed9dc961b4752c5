"""What is done about an experiment: it begins, ramps up, is promoted, rolled back or held, each on the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from anomaly.errors import ConfigError
from anomaly.experiments.active import check_apart, running_states
from anomaly.experiments.compare import Comparison
from anomaly.experiments.file import Experiment
from anomaly.experiments.state import Entry, State, Status, Taken, add_entry, read_audit, read_state, write_state
from anomaly.experiments.verdict import Look, days_since, decide
from anomaly.registry.store import Registry


class Pinned(NamedTuple):
    """A model that stays what it is: its reference ("fleet/4" for "fleet@challenger") and its digest."""

    reference: str
    digest: str


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


def begin(
    folder: Path, experiment: Experiment, at: int, pin: Callable[[str], Pinned], eligible: str | None = None
) -> State:
    """Begin the experiment's revision, or find it begun: the first step of the ramp, each arm's model pinned.

    Raises ConfigError if its arms cannot be told apart, or if it would share vehicles with an experiment that runs.
    """
    known = read_state(folder, experiment.id)
    if known is not None and known.revision >= experiment.revision:
        return known
    pinned = {arm.name: pin(arm.model) for arm in experiment.arms if arm.model is not None}
    _check_arms(experiment, pinned)
    for other in running_states(folder).values():
        if other.id != experiment.id:
            check_apart(other.experiment, experiment)
    state = State(
        id=experiment.id,
        revision=experiment.revision,
        digest=experiment.digest(),
        status="running",
        experiment=experiment,
        models={name: model.reference for name, model in pinned.items()},
        digests={name: model.digest for name, model in pinned.items()},
        steps=[Taken(share=experiment.ramp[0].share, at=at, eligible=eligible)],
        at=at,
    )
    _write(folder, state, f"began at {experiment.ramp[0].share:.0%} of the vehicles", at)
    return state


def _check_arms(experiment: Experiment, pinned: dict[str, Pinned]) -> None:
    one, other = experiment.control, experiment.treatment
    if pinned.get(one.name) == pinned.get(other.name) and one.threshold == other.threshold:
        raise ConfigError(f"experiment {experiment.id}: both arms are {one.model or 'the champion'}; name two models")
    if experiment.on_pass == "promote" and (other.threshold is not None or other.model is None):
        raise ConfigError(
            f"experiment {experiment.id}: on_pass promote needs a treatment that is a model and no more; a threshold "
            'is put into the fleet file by a person: on_pass = "hold"'
        )


def problems(experiment: Experiment, state: State, pin: Callable[[str], Pinned]) -> list[str]:
    """Why a running experiment may not go on by itself, each with what to do; `pin` as for `begin`."""
    found = []
    if state.digest != experiment.digest():
        found.append(
            f"revision {state.revision} was changed after it began; take the change back, or make it revision "
            f"{state.revision + 1}"
        )
    for arm in state.experiment.arms:
        if arm.model is None:
            continue
        now = pin(arm.model)
        if now.reference != state.models[arm.name]:
            found.append(
                f"{arm.model} is {now.reference} by now, arm {arm.name} runs {state.models[arm.name]}; move the alias "
                "back, or stop the experiment and begin a new revision"
            )
        elif now.digest != state.digests[arm.name]:
            found.append(f"{now.reference} of arm {arm.name} is not the model that it was; publish it again")
    return found


def act(folder: Path, look: Look, name: str, effects: Effects, frozen: Sequence[str] = ()) -> State:
    """Decide about experiment `name`, and do what its file says; answers the state that is written by then.

    Each act is on the audit trail and in the state before its effect, so that after a crash the next call finishes
    it. An experiment that is over is left as it is. One that is `frozen`, or whose clock went back, goes no further:
    no step, no promotion; a guardrail still rolls it back. Raises ConfigError if the experiment has not begun.
    """
    state = read_state(folder, name)
    if state is None:
        raise ConfigError(f"experiment {name} has not begun: `anomaly experiment start {name}`")
    if state.status == "running":
        state = _answer(folder, state, look, [*frozen, *_clock_problems(folder, state, look)])
    return finish(folder, state, effects)


def _clock_problems(folder: Path, state: State, look: Look) -> list[str]:
    last = max((entry.at for entry in read_audit(folder, state.id)), default=state.at)
    if look.at >= last:
        return []
    days = (last - look.at) / look.ticks_per_day
    return [f"the newest reading is {days:.1f} days older than at the last look; mend the clock or the run's folder"]


def _answer(folder: Path, state: State, look: Look, frozen: Sequence[str]) -> State:
    """The state after a verdict, written down, with nothing done outside yet."""
    after = answer(state, look, frozen)
    if _differs(after, state) or _day_passed(folder, state, look):
        did = f"{after.verdict}: {after.status.replace('_', ' ')} at {after.share:.0%}"
        _write_entry(folder, after, did, look.at, look.comparison)
    if not _differs(after, state):
        return state
    write_state(folder, after)
    return after


def answer(state: State, look: Look, frozen: Sequence[str] = ()) -> State:
    """What becomes of a running experiment at this look; nothing is written or done."""
    experiment = state.experiment
    verdict = decide(experiment, state, look)
    status: Status = "running"
    result, reason = verdict.result, verdict.reason
    if result == "fail" and experiment.on_fail == "rollback":
        status = "rolling_back"
    elif frozen:
        result, reason = "inconclusive", f"held: {'; '.join(frozen)}"
    elif result == "pass" and experiment.on_pass == "promote":
        status = "promoting"
    step = _next_step(state, look) if status == "running" and not frozen else []
    return msgspec.structs.replace(
        state,
        status=status,
        at=look.at,
        verdict=result,
        reason=reason,
        steps=[*state.steps, *step],
        read_at=look.at if verdict.read and not frozen and state.read_at is None else state.read_at,
    )


def _differs(after: State, before: State) -> bool:
    """Whether anything but figures changed: the state is written for that alone, the trail also day by day."""
    held = after.reason.startswith("held") or before.reason.startswith("held")
    same = (after.status, after.verdict, after.steps, after.read_at) == (
        before.status,
        before.verdict,
        before.steps,
        before.read_at,
    )
    return not same or (held and after.reason != before.reason)


def _day_passed(folder: Path, state: State, look: Look) -> bool:
    last = max((entry.at for entry in read_audit(folder, state.id)), default=state.at)
    return days_since(last, look) >= 1.0


def finish(folder: Path, state: State, effects: Effects) -> State:
    """Do what the state says was going to be done."""
    experiment = state.experiment
    model = state.models.get(experiment.treatment.name, "")
    own = model and model != state.models.get(experiment.control.name)
    reason = f"experiment {state.id}, revision {state.revision}: {state.reason}"
    what = model or f"the threshold of {experiment.treatment.name}"
    if state.status == "promoting":
        effects.promote(model, reason)
        state = msgspec.structs.replace(state, status="promoted")
        _write(folder, state, f"promoted {what}", state.at)
    elif state.status == "rolling_back":
        if own:
            effects.roll_back(model, reason)
        state = msgspec.structs.replace(state, status="rolled_back")
        _write(folder, state, f"rolled {what} back", state.at)
    return state


def stop(folder: Path, experiment: str, at: int, reason: str) -> State:
    """End an experiment by hand: everybody scores with the champion again. Raises ConfigError if none runs."""
    state = read_state(folder, experiment)
    if state is None:
        raise ConfigError(f"experiment {experiment} has not begun in {folder}")
    if state.status in ("promoted", "rolled_back", "stopped"):
        raise ConfigError(f"experiment {experiment} is over: {state.status.replace('_', ' ')}")
    state = msgspec.structs.replace(state, status="stopped", at=max(at, state.at), reason=reason)
    _write(folder, state, "stopped", state.at)
    return state


def _next_step(state: State, look: Look) -> list[Taken]:
    """The next step of the ramp, if there is one and the current one lasted long enough."""
    ramp, place = state.experiment.ramp, len(state.steps) - 1
    if place + 1 >= len(ramp) or look.comparison.split.broken:
        return []
    step = ramp[place]
    vehicles = sum(arm.vehicles for arm in look.comparison.arms)
    if days_since(state.steps[-1].at, look) < step.min_days or vehicles < step.min_vehicles:
        return []
    return [Taken(share=ramp[place + 1].share, at=look.at, eligible=state.steps[-1].eligible)]


def _write(folder: Path, state: State, act: str, at: int) -> None:
    _write_entry(folder, state, act, at, None)
    write_state(folder, state)


def _write_entry(folder: Path, state: State, act: str, at: int, evidence: Comparison | None) -> None:
    entry = Entry(at=at, id=state.id, revision=state.revision, act=act, reason=state.reason, evidence=evidence)
    add_entry(folder, entry)
