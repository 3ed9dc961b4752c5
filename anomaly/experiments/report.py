"""What there is to know of an experiment, for a person or a program: where it stands, and how it came there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from anomaly.errors import ConfigError
from anomaly.experiments.compare import lines
from anomaly.experiments.file import Experiment, load
from anomaly.experiments.state import Entry, State, read_audit, read_state


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment's file, its state (None: it has not begun) and its audit trail, oldest entry first."""

    experiment: Experiment
    state: State | None
    audit: list[Entry]


def report(folder: Path, name: str) -> Report:
    """All of one experiment of `folder`. Raises ConfigError if there is no such file, or for one that is wrong."""
    path = folder / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.toml"))) or "none"
        raise ConfigError(f"{path} is not there; experiments in this folder: {known}")
    return Report(experiment=load(path), state=read_state(folder, name), audit=read_audit(folder, name))


def status_line(found: Report) -> str:
    """Where it stands, in a line."""
    experiment, state = found.experiment, found.state
    who = f"{experiment.id}, revision {experiment.revision}"
    if state is None or state.revision != experiment.revision:
        return f"{who}: not begun; {experiment.ramp[0].share:.0%} of the vehicles are assigned"
    verdict = f"; {state.verdict}: {state.reason}" if state.verdict else ""
    step = f"step {len(state.steps)} of {len(experiment.ramp)}, {state.share:.0%} of the vehicles"
    return f"{who}: {state.status.replace('_', ' ')}, {step}{verdict}"


def report_lines(found: Report, when: Callable[[int], str] = str) -> Iterator[str]:
    """The whole report in lines: where it stands, the arms, their differences, what was done when and why.

    `when` puts a time of the fleet in words.
    """
    yield status_line(found)
    models = found.state.models if found.state else {}
    for arm in found.experiment.arms:
        yield f"  {arm.name} ({arm.role}): {models.get(arm.name, arm.model)}, {arm.share:.0%}"
    if found.state and found.state.evidence:
        yield f"as of {when(found.state.at)}:"
        yield from (f"  {line}" for line in lines(found.state.evidence))
    for entry in found.audit:
        reason = f": {entry.reason}" if entry.reason else ""
        yield f"{when(entry.at)}: revision {entry.revision} {entry.act}{reason}"
