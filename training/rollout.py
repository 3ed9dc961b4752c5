"""A rollout's experiment file, as its owner would write it."""

from __future__ import annotations

from pathlib import Path

from anomaly.experiments.file import load
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.look import start

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
method = "fixed"               # a planned read-out, once: for an answer at any look take "sequence", and more vehicles

[[guardrails]]                 # rolled back if it surely raises 3 false alarms more in 1,000 vehicle-days
metric = "false_alarms"
max_harm = 3.0
"""


def start_experiment(run: Path, registry: Registry, fleet: Fleet, now: int) -> str:
    """Write the file that a rollout owner would write, challenger against champion, and begin it; answers its id."""
    references = {alias: registry.resolve(f"{fleet.name}@{alias}") for alias in ("champion", "challenger")}
    name = f"challenger-{references['challenger'].number}"
    folder = run / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    text = TEMPLATE.format(
        id=name, control=references["champion"].reference, treatment=references["challenger"].reference
    )
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    start(run, fleet, load(folder / f"{name}.toml"), registry, now)
    return name
