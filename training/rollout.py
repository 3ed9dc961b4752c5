"""One rollout: its experiment file, and what a look at its arms leads to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from anomaly.engine.engine import Restart
from anomaly.experiments.active import entered
from anomaly.experiments.assignment import assign, read_salt
from anomaly.experiments.compare import compare
from anomaly.experiments.controller import Look, act, begin, registry_effects
from anomaly.experiments.file import Experiment, load
from anomaly.experiments.state import State
from anomaly.feedback.archive import reading_batch
from anomaly.feedback.history import Past
from anomaly.feedback.outcomes import Moment, Told, outcomes, vehicle_table, write_outcomes
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.rows import read_archive, read_decisions
from anomaly.telemetry.records import Label

TEMPLATE = """# Half of the vehicles score with {treatment}, the others with {control}.
id = "{id}"
label_delay_days = 4.0
min_days = 10.0
on_pass = "promote"
on_fail = "rollback"
owner = "demo"

[[arms]]
name = "champion"
role = "control"
model = "{control}"
share = 0.5

[[arms]]
name = "challenger"
role = "treatment"
model = "{treatment}"
share = 0.5

[primary]                      # promoted if it surely loses less than three days of lead: the gate saw it win some
metric = "lead"
margin = 3.0

[[guardrails]]                 # rolled back if it surely raises 3 false alarms more in 1,000 vehicle-days
metric = "false_alarms"
max_harm = 3.0
"""


class Known(NamedTuple):
    """What is known at the time `now`: labels that were reported, restarts of baselines."""

    now: int
    labels: Sequence[Label]
    restarts: Sequence[Restart]


def start_experiment(run: Path, registry: Registry, fleet: Fleet, now: int) -> Experiment:
    """Write the file that a rollout owner would write, challenger against champion, and begin it."""
    references = {alias: registry.resolve(f"{fleet.name}@{alias}") for alias in ("champion", "challenger")}
    name = f"challenger-{references['challenger'].number}"
    folder = run / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    text = TEMPLATE.format(
        id=name, control=references["champion"].reference, treatment=references["challenger"].reference
    )
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    experiment = load(folder / f"{name}.toml")
    begin(folder, experiment, now, lambda reference: registry.resolve(reference).reference)
    return experiment


def look(run: Path, fleet: Fleet, experiment: Experiment, state: State, known: Known) -> Look:
    """The arms compared by vehicle, from the run's decision log, archive and the labels known by now."""
    past = Past.of(reading_batch(read_archive(run, fleet), fleet))
    moment = Moment(known.now, int(experiment.label_delay_days * fleet.ticks_per_day))
    found = outcomes(read_decisions(run), Told(past, known.labels, known.restarts), fleet, moment)
    write_outcomes(found, run / "outcomes")
    salt = read_salt(experiment)
    table = vehicle_table(found, past, fleet, entered(experiment, state.steps, salt, past.names), moment)
    comparison = compare(experiment, assign(experiment, state.share, salt), table)
    return Look(comparison, known.now, fleet.ticks_per_day)


def conclude(run: Path, fleet: Fleet, experiment: Experiment, registry: Registry, known: Known) -> State:
    """Look, decide, and do what the experiment file says: promote, roll back, or hold."""
    folder = run / "experiments"
    state = begin(folder, experiment, known.now, lambda reference: registry.resolve(reference).reference)
    return act(folder, experiment, look(run, fleet, experiment, state, known), registry_effects(registry))
