"""What there is to know of an experiment, for a person or a program: where it stands, and how it came there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from anomaly.errors import ConfigError
from anomaly.experiments.beside import Beside, Example, Figure
from anomaly.experiments.compare import ArmFigures, Comparison, Reading
from anomaly.experiments.file import Experiment, load, names
from anomaly.experiments.metrics import RATIOS
from anomaly.experiments.state import Entry, State, read_audit, read_state


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment as it runs (as its file says, before it began), its state, and its audit trail, oldest first."""

    experiment: Experiment
    state: State | None
    audit: list[Entry]

    @property
    def evidence(self) -> Comparison | None:
        """The last comparison that is on the audit trail."""
        return next((entry.evidence for entry in reversed(self.audit) if entry.evidence is not None), None)

    @property
    def looks(self) -> list[Entry]:
        """Entries with evidence of the revision that runs, oldest first."""
        return [one for one in self.audit if one.evidence and one.revision == self.experiment.revision]


def report(folder: Path, name: str) -> Report:
    """All of one experiment of `folder`. Raises ConfigError if there is no such file, or for one that is wrong."""
    state = read_state(folder, name)
    path = folder / f"{name}.toml"
    if state is None and not path.exists():
        known = ", ".join(names(folder)) or "none"
        raise ConfigError(f"{path} is not there; experiments in this folder: {known}")
    experiment = state.experiment if state is not None else load(path)
    return Report(experiment=experiment, state=state, audit=read_audit(folder, name))


def status_line(found: Report) -> str:
    """Where it stands, in a line."""
    experiment, state = found.experiment, found.state
    who = f"{experiment.id}, revision {experiment.revision}"
    if state is None:
        return f"{who}: not begun; everybody scores with the champion"
    last = found.looks[-1].reason if found.looks and state.status == "running" else state.reason
    verdict = f"; {state.verdict}: {last}" if state.verdict else ""
    step = f"step {len(state.steps)} of {len(experiment.ramp)}, {state.share:.0%} of the vehicles"
    known = found.evidence.beside if found.evidence else None
    tried = f"; {agreement_line(known)}" if known else ""
    return f"{who}: {state.status.replace('_', ' ')}, {step}{tried}{verdict}"


def report_lines(found: Report, when: Callable[[int], str] = str) -> Iterator[str]:
    """The whole report in lines: where it stands, the arms, their differences, what was done when and why.

    `when` puts a time of the fleet in words.
    """
    yield status_line(found)
    models = found.state.models if found.state else {}
    for arm in found.experiment.arms:
        what = models.get(arm.name, arm.model or "the champion")
        scaled = f", threshold x {arm.threshold.scale:g}" if arm.threshold else ""
        scaled += ", a shadow: the control acts" if arm.mode == "shadow" else ""
        yield f"  {arm.name} ({arm.role}): {what}{scaled}, {arm.share:.0%}"
    if found.evidence:
        yield f"as of {when(found.looks[-1].at if found.looks else 0)}:"
        yield from (f"  {line}" for line in lines(found.evidence))
        if found.evidence.beside:
            yield from (f"  {line}" for line in beside_lines(found.evidence.beside, when))
    for entry in found.audit:
        reason = f": {entry.reason}" if entry.reason else ""
        yield f"{when(entry.at)}: revision {entry.revision} {entry.act}{reason}"


def lines(comparison: Comparison) -> Iterator[str]:
    """A comparison as a table in words: a line an arm, a metric, a slice."""
    yield from map(_arm_line, comparison.arms)
    yield from map(reading_line, comparison.readings)
    split = comparison.split
    state = "BROKEN, nothing may be concluded" if split.broken else "as promised"
    yield f"split: {split.control} and {split.treatment} vehicles, {state}"
    for part in comparison.slices:
        harm = "unknown" if part.harm is None else f"{part.harm:+.3g}"
        yield f"exploratory, {part.field} {part.word}: harm {harm}, {part.vehicles} vehicles"


def agreement_line(beside: Beside) -> str:
    """How often the shadow and the acting model say the same."""
    if beside.agreement is None:
        return "the shadow was not compared for a whole day yet"
    sure = "" if beside.low is None or beside.high is None else f" ({beside.low:.2%} to {beside.high:.2%})"
    return f"the shadow agrees in {beside.agreement:.2%}{sure} of {beside.compared:,} decisions"


def beside_lines(beside: Beside, when: Callable[[int], str]) -> Iterator[str]:
    """The shadow beside the acting model: figures, vehicles that differ, decisions to look at."""
    yield f"{agreement_line(beside)}, {beside.vehicles:,} vehicles"
    yield from map(figure_line, beside.figures)
    for one in beside.apart:
        yield (
            f"differs on {one.vehicle}: {one.acting_episodes} episodes, by the shadow {one.shadow_episodes}, agreement "
            f"{one.agreement:.2%} of {one.compared:,}, cost {one.cost:+g}"
        )
    for example in beside.examples:
        yield example_line(example, when)


def figure_line(figure: Figure) -> str:
    """A figure of both, and the difference with its interval."""
    shown = ["unknown" if value is None else f"{value:.4g}" for value in (figure.acting, figure.shadow)]
    sure = "" if figure.low is None or figure.high is None else f" ({figure.low:+.3g} to {figure.high:+.3g})"
    apart = "" if figure.difference is None else f", difference {figure.difference:+.3g}{sure}"
    return f"{figure.name}: {shown[0]}, by the shadow {shown[1]}{apart}"


def example_line(example: Example, when: Callable[[int], str]) -> str:
    """A decision that only one would alarm for."""
    who = "the acting model alone" if example.alarms == "acting" else "the shadow alone"
    signals = f", {', '.join(example.signals)}" if example.signals else ""
    label = f"; found: {example.label.replace('_', ' ')}" if example.label else ""
    return (
        f"look at {example.vehicle} at {when(example.ts)}: {who} alarms, level {example.level:.2f}, "
        f"by the shadow {example.shadow_level:.2f}{signals}{label}"
    )


def reading_line(reading: Reading) -> str:
    """One metric in a sentence: which way, how much, how sure, and what is allowed."""
    ratio = RATIOS[reading.metric]
    counted = f"{reading.control_events:g} in the control, {reading.treatment_events:g} in the treatment"
    start = f"{reading.metric} ({reading.role}): "
    if reading.log_e is not None:
        excess = "unknown" if reading.harm is None else f"{reading.harm:+.0%}"
        return (
            f"{start}vehicles with one {excess}, {reading.limit:.0%} allowed; evidence {max(reading.log_e, 0.0):.2f} "
            f"of {reading.log_needed:.2f} needed; {counted}: {reading.result}"
        )
    if reading.harm is None:
        return f"{start}unknown, an arm has nothing to count by: {reading.result}"
    side = "worse" if reading.harm > 0 else "better"
    sure = "too few events for an interval"
    if reading.low is not None and reading.high is not None:
        sure = f"harm between {reading.low:.3g} and {reading.high:.3g}"
    return (
        f"{start}treatment {abs(reading.harm):.3g} {ratio.unit} {side}, {sure}, {reading.limit:g} allowed; {counted}: "
        f"{reading.result}"
    )


def _arm_line(arm: ArmFigures) -> str:
    shown = {name: "unknown" if value is None else f"{value:.3g}" for name, value in arm.metrics.items()}
    return (
        f"{arm.arm} ({arm.role}): {arm.vehicles} vehicles, {arm.vehicle_days:.0f} vehicle-days, "
        f"false alarms per 1,000 {shown['false_alarms']}, alerts a day {shown['alerts']}, "
        f"detected {shown['detected']} of {arm.faults} faults, lead {shown['lead']} days, cost a day {shown['cost']}"
    )
