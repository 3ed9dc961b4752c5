"""The steps of the autopilot with all their effects: on the registry, on experiments, on the run's folder.

Each may be called again after a crash: what is already there is found and left.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from anomaly.disk import replace_file
from anomaly.engine.frame import Frame
from anomaly.errors import DataError
from anomaly.experiments.compare import Comparison
from anomaly.experiments.controller import registry_effects, stop
from anomaly.experiments.state import ACTIVE, State, read_audit, read_state
from anomaly.experiments.verdict import doubt
from anomaly.registry.store import Alias
from anomaly.service.look import conclude, known
from training.fit import Trained
from training.history import split_vehicles
from training.loop import machine
from training.loop.gates import Candidate, Gates, card_lines, gates, model_of
from training.loop.machine import Cycle, Facts, Step, Went
from training.loop.place import Place, sources
from training.loop.record import Data, Record, digest_of, read_record, retrain, write_record
from training.loop.rollout import write_experiment
from training.loop.triggers import Trigger, due
from training.loop.watch import seen
from training.loop.windows import windows
from training.train import Recipe, publish


def steps(place: Place) -> Mapping[machine.State, Step]:
    """The functions of the machine's states."""
    return {
        "watch": lambda cycle, at: _watch(place, cycle, at),
        "retrain": lambda cycle, _at: _retrain(place, cycle),
        "gate": lambda cycle, _at: _gate(place, cycle),
        "shadow": lambda cycle, at: _try(place, cycle, at, "shadow"),
        "experiment": lambda cycle, at: _try(place, cycle, at, "live"),
        "promote": lambda cycle, at: _promote(place, cycle, at),
        "roll_back": lambda cycle, at: _roll_back(place, cycle, at),
    }


def _watch(place: Place, cycle: Cycle, at: int) -> Went | None:
    """Whether there is a reason to train: since the last training, or since the loop began."""
    past = [read_record(path).cutoff for path in sorted(place.folder.glob("*/record.json"))]
    since = max(past, default=cycle.since if cycle.id == 1 else at)
    trigger = due(place.file.rules, seen(place, at, since))
    if trigger is None:
        return None
    return Went(
        "retrain", f"{trigger.cause}: {trigger.reason}", Facts(cause=trigger.cause, why=trigger.reason, cutoff=at)
    )


def _home(place: Place, cycle: Cycle) -> Path:
    return place.folder / f"{cycle.id:04d}"


def _retrain(place: Place, cycle: Cycle) -> Went:
    champion = place.champion()
    frame = Frame.from_json(place.registry.load(place.registry.resolve(champion)).frame)
    asked = Record(
        cycle=cycle.id,
        trigger=_trigger(cycle),
        cutoff=cycle.facts.cutoff,
        seed=place.file.seed + cycle.id,
        fleet="",
        frame="",
        parent=champion,
        window_days=place.file.window_days,
        holdout_days=place.file.holdout_days,
        cap=place.file.cap,
        data=Data(readings="", events="", labels=""),
        vehicles=0,
        readings=0,
        faults=0,
    )
    made = retrain(place.fleet, sources(place), frame, asked)
    home = _home(place, cycle)
    home.mkdir(parents=True, exist_ok=True)
    replace_file(home / "candidate.msgpack", msgspec.msgpack.encode(made.trained))
    write_record(home / "record.json", made.record)
    said = f"model {made.record.digest[:12]} of {made.record.readings:,} readings, {made.record.faults} known faults"
    return Went("gate", said, cycle.facts)


def _trigger(cycle: Cycle) -> Trigger:
    return msgspec.convert({"cause": cycle.facts.cause, "reason": cycle.facts.why}, Trigger)


def _gate(place: Place, cycle: Cycle) -> Went:
    """All gates; what passes is published with the report on its card, once."""
    home, fleet = _home(place, cycle), place.fleet
    record = read_record(home / "record.json")
    trained = msgspec.msgpack.decode((home / "candidate.msgpack").read_bytes(), type=Trained)
    if digest_of(trained) != record.digest:
        raise DataError(f"{home / 'candidate.msgpack'} is not the model of its record; remove {home} to train again")
    told = sources(place)
    past = windows(fleet, told.readings, (told.events, told.labels), record.cutoff, record.spans)
    old = place.registry.load(place.registry.resolve(record.parent))
    candidate = Candidate(model_of(trained, "candidate"), trained.onnx, trained.parity)
    report = gates(fleet, trained.frame, old.engine_model(), candidate, (past.whole, past.since))
    replace_file(home / "gates.json", msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if not report.passed:
        return Went("watch", f"refused at the gate: {'; '.join(report.reasons)}", cycle.facts)
    number = published(place, record.digest)
    if number is None:
        names = [past.training.names[code] for code in np.unique(past.training.codes)]
        recipe = Recipe(fleet, past.training, split_vehicles(names, record.seed, None), record.seed)
        number = publish(place.registry, recipe, trained, _card(record, report)).number
    facts = msgspec.structs.replace(cycle.facts, number=number)
    return Went("shadow", f"{fleet.name}/{number} passed all gates", facts)


def _card(record: Record, report: Gates) -> str:
    why = f"Trained by the loop, cycle {record.cycle}: {record.trigger.reason}."
    return "\n".join([why, "", *card_lines(report)])


def published(place: Place, digest: str) -> int | None:
    """The number of the model if it was published before a crash."""
    for entry in reversed(place.registry.entries(place.fleet.name)):
        if place.registry.manifest(entry).digest == digest:
            return entry.number
    return None


def _try(place: Place, cycle: Cycle, at: int, mode: Literal["shadow", "live"]) -> Went | None:
    """A look at the experiment of this state, which is written and begun where it is not there yet."""
    if mode == "live":
        _stop(place, cycle, at, "shadow", "the loop goes on to the experiment")
    state = _look(place, cycle, mode)
    facts = msgspec.structs.replace(cycle.facts, experiment=state.id)
    days = (at - state.steps[0].at) / place.fleet.ticks_per_day
    if state.status in ("rolled_back", "stopped"):
        return Went("roll_back", f"{state.id}: {state.reason or state.status}", facts)
    return (_after_shadow if mode == "shadow" else _after_live)(place, state, facts, days)


def _look(place: Place, cycle: Cycle, mode: Literal["shadow", "live"]) -> State:
    number, name = cycle.facts.number, place.fleet.name
    if number is None:
        raise DataError(f"cycle {cycle.id} has no model; remove {place.folder / 'loop.db'} to begin again")
    identity, folder = f"loop-{cycle.id}-{mode}", place.run / "experiments"
    alias: Alias = "shadow" if mode == "shadow" else "challenger"
    state = read_state(folder, identity)
    if (state is None or state.status in ACTIVE) and place.registry.aliases(name).get(alias) != number:
        place.registry.set_alias(name, alias, number, f"the loop, cycle {cycle.id}")
    if state is None:
        write_experiment(folder, identity, (place.champion(), f"{name}/{number}"), mode, place.file)
    return conclude(place.run, place.fleet, identity, place.registry, known(place.run, place.fleet))


def _last_look(place: Place, state: State) -> tuple[str, Comparison | None]:
    """What the last look said, and saw: the state's own reason is of the last look that changed it."""
    trail = read_audit(place.run / "experiments", state.id)
    seen = [one.evidence for one in trail if one.evidence is not None]
    return trail[-1].reason if trail else state.reason, seen[-1] if seen else None


def _after_live(place: Place, state: State, facts: Facts, days: float) -> Went | None:
    reason, last = _last_look(place, state)
    if state.verdict == "pass":
        return Went("promote", f"{state.id}: {reason}", facts)
    if days < place.file.max_days:
        return None
    against = _seems_worse(last) if last else None
    if against is None and facts.paired:
        said = f"{state.id} found no harm in {days:.0f} days, and the shadow had passed; {reason}"
        return Went("promote", said, facts)
    said = against or f"nothing was found for it in {days:.0f} days: {reason}"
    return Went("roll_back", f"{state.id}: {said}", facts)


def _seems_worse(last: Comparison) -> str | None:
    """What stands against a promotion without a verdict, although nobody is sure of it."""
    primary = last.primary
    if primary.harm is not None and primary.harm > primary.limit:
        return f"{primary.metric} seems worse by {primary.harm:.3g}, {primary.limit:g} allowed"
    return next(filter(None, map(doubt, last.guardrails)), None)


def _after_shadow(place: Place, state: State, facts: Facts, days: float) -> Went | None:
    passed = state.verdict == "pass"
    waited = days >= 3 * place.file.shadow_days + place.file.label_delay_days
    if not (passed or waited or state.read_at is not None):
        return None
    reason, _ = _last_look(place, state)
    said = reason if passed else f"no harm was found in {days:.0f} days: {reason}"
    return Went("experiment", f"{state.id}: {said}", msgspec.structs.replace(facts, paired=passed))


def _promote(place: Place, cycle: Cycle, at: int) -> Went:
    reference = f"{place.fleet.name}/{cycle.facts.number}"
    registry_effects(place.registry).promote(reference, f"the loop, cycle {cycle.id}: {cycle.reason}")
    _end(place, cycle, at)
    return Went("watch", f"{reference} is the champion: {cycle.reason}", cycle.facts)


def _roll_back(place: Place, cycle: Cycle, at: int) -> Went:
    reference = f"{place.fleet.name}/{cycle.facts.number}"
    registry_effects(place.registry).roll_back(reference, f"the loop, cycle {cycle.id}: {cycle.reason}")
    _end(place, cycle, at)
    facts = msgspec.structs.replace(cycle.facts, failed=cycle.reason)
    return Went("watch", f"{reference} is no challenger any more: {cycle.reason}", facts)


def _stop(place: Place, cycle: Cycle, at: int, mode: Literal["shadow", "live"], why: str) -> None:
    """End an experiment of the cycle, if it runs."""
    folder = place.run / "experiments"
    state = read_state(folder, f"loop-{cycle.id}-{mode}")
    if state is not None and state.status in ACTIVE:
        stop(folder, state.id, at, why)


def _end(place: Place, cycle: Cycle, at: int) -> None:
    """No experiment of the cycle runs on, and no alias but the champion's means its model."""
    _stop(place, cycle, at, "shadow", f"the loop's cycle {cycle.id} is over")
    _stop(place, cycle, at, "live", f"the loop's cycle {cycle.id} is over")
    aliases = place.registry.aliases(place.fleet.name)
    if cycle.facts.number is not None and aliases.get("shadow") == cycle.facts.number:
        place.registry.set_alias(place.fleet.name, "shadow", None, f"the loop, cycle {cycle.id}, is over")
    if cycle.facts.number is not None and aliases.get("challenger") == cycle.facts.number:
        place.registry.set_alias(place.fleet.name, "challenger", None, f"the loop, cycle {cycle.id}, is over")
