"""Publish a trained model: manifest, card, registry, and the alias where there is no champion yet."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from typing import NamedTuple

import msgspec

from anomaly.engine.cohort_check import why_off
from anomaly.engine.frame import BLOCKS, Frame
from anomaly.fleet import Fleet
from anomaly.registry.manifest import Checks, Manifest, Metric, Policy, Window
from anomaly.registry.store import Registry
from training.figures import Figures
from training.fit import Choice, Trained, Tried
from training.frame import own_past
from training.graph import OPSET
from training.history import History, Split

LIBRARIES = ("numpy", "scikit-learn", "onnx", "onnxruntime", "fleet-anomaly")


class Recipe(NamedTuple):
    """What a model was made from: enough to make it again."""

    fleet: Fleet
    history: History
    split: Split
    seed: int


def champion_frame(registry: Registry, fleet: Fleet) -> Frame | None:
    """The champion's frame, which a retrained model keeps; None where there is no champion, or the fleet file asks for
    other signals or features than it has."""
    if "champion" not in registry.aliases(fleet.name):
        return None
    frame = Frame.from_json(registry.load(registry.resolve(f"{fleet.name}@champion")).frame)
    asked = (tuple(fleet.signals), fleet.context.regime, fleet.frame_features)
    same = (frame.signals, frame.regime, frame.features) == asked
    return frame if same and (frame.features != "conformal" or frame.own_past == own_past(fleet)) else None


def publish(registry: Registry, recipe: Recipe, trained: Trained, more: str = "") -> Manifest:
    """Put the model into the registry, `more` at the end of its card; it becomes champion only where there is none."""
    fleet = recipe.fleet
    aliases = registry.aliases(fleet.name)
    manifest = _manifest(recipe, trained, aliases.get("champion"))
    files = {"model.onnx": trained.onnx, "card.md": f"{card(recipe, trained)}{more}".encode()}
    number = registry.publish(fleet.name, files, manifest, trained.frame.to_json())
    if "champion" not in aliases:
        registry.set_alias(fleet.name, "champion", number, "the first model")
    return registry.load(registry.resolve(f"{fleet.name}/{number}")).manifest


def _manifest(recipe: Recipe, trained: Trained, parent: int | None) -> Manifest:
    fleet, batch = recipe.fleet, recipe.history.batch
    data = hashlib.sha256(batch.ts.tobytes() + batch.values.tobytes() + "\n".join(batch.vehicles).encode())
    return Manifest(
        name=fleet.name,
        family=trained.family,
        features=tuple(f"{block}.{name}" for block in BLOCKS[trained.frame.features] for name in fleet.signals),
        signals=tuple(fleet.signals),
        width=trained.frame.width,
        k=trained.k,
        q_fleet=trained.q_fleet,
        policy=Policy.of(trained.policy),
        checks=Checks.of(trained.checks),
        budget=fleet.threshold.false_alarms,
        window=Window(
            start=int(batch.ts.min()),
            end=int(batch.ts.max()),
            time_unit=fleet.fleet.time_unit,
            readings=len(batch),
            vehicles=len(set(batch.vehicles)),
            sha256=data.hexdigest(),
        ),
        metrics=_metrics(trained),
        opset=OPSET,
        libraries={**{name: version(name) for name in LIBRARIES}, "python": platform.python_version()},
        seed=recipe.seed,
        fleet_digest=fleet.digest(),
        parent=parent,
    )


def _metrics(trained: Trained) -> dict[str, Metric]:
    figures = trained.figures
    low, high = figures.false_alarms_interval
    return {
        "false_alarms_per_1000_days": Metric(value=figures.false_alarms_per_1000_days, low=low, high=high),
        "detected": Metric(value=figures.detected),
        "lead": Metric(value=figures.lead),
        "onnx_parity": Metric(value=trained.parity),
    }


def card(recipe: Recipe, trained: Trained) -> str:
    """The model card: what it is, what it was fitted on, how good it was on vehicles it was not fitted on."""
    fleet, history = recipe.fleet, recipe.history
    off = why_off(fleet, trained.checks.cohort)
    lines = [
        f"# {fleet.name}: {trained.family}",
        "",
        f"- Signals: {', '.join(fleet.signals)}; regimes: {len(trained.frame.center)}; "
        f"burn-in {trained.frame.burn_in} readings; evidence over {trained.frame.time_constant} readings.",
        f"- Fitted on {len(recipe.split.train)} vehicles, threshold set with {_more(recipe.split)} "
        f"at a budget of {fleet.threshold.false_alarms:g} false-alarm episodes per 1,000 healthy vehicle-days.",
        f"- History: {len(history.batch):,} readings of {len(history.names)} vehicles, "
        f"{len(history.faults)} confirmed faults; seed {recipe.seed}.",
        f"- Threshold k = {trained.k:.3f} nats, healthy 95 % quantile {trained.q_fleet:.3f}; "
        f"{100 * trained.alarming_share:.2f} % of all readings would alarm.",
        f"- ONNX against the fitted estimator: {trained.parity:.1e}.",
        *(f"- Note: {note}." for note in [*history.notes, *recipe.split.notes, *filter(None, [off])]),
        *chosen(trained.choice),
        "",
        "## On the later readings" if recipe.split.blocked else "## On the validation vehicles",
        "",
        *(f"- {line}" for line in describe(trained.figures, fleet)),
        "",
        "```json",
        msgspec.json.format(msgspec.json.encode(trained.figures), indent=2).decode(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _more(split: Split) -> str:
    return "their later readings" if split.blocked else f"{len(split.validation)} more"


def chosen(choice: Choice | None) -> list[str]:
    """The card's lines on why `auto` took the family that it took; none where a person named it."""
    if choice is None:
        return []
    lines = ["", "## Why this family", "", f"{choice.why}.".capitalize()]
    if choice.tried:
        lines += ["", "| family | false alarms | detected | lead | cost |", "|---|---:|---:|---:|---:|"]
        lines += [f"| {one.family} | {_tried(one)} |" for one in choice.tried]
    return lines


def _tried(one: Tried) -> str:
    figures = one.figures
    if figures is None:
        return f"refused: {one.refused} | | |"
    detected, lead = ("-" if value is None else f"{value:.2f}" for value in (figures.detected, figures.lead))
    return f"{figures.false_alarms_per_1000_days:.2f} | {detected} | {lead} | {figures.cost:,.0f}"


def describe(figures: Figures, fleet: Fleet) -> list[str]:
    """Headline figures in sentences."""
    days = "cycles" if fleet.fleet.time_unit == "cycles" else "vehicle-days"
    unit = "cycles" if fleet.fleet.time_unit == "cycles" else "days"
    low, high = figures.false_alarms_interval
    lines = [
        f"false alarms: {figures.false_alarms_per_1000_days:.2f} episodes per 1,000 healthy {days} "
        f"(95 % interval {low:.2f} to {high:.2f}; budget {fleet.threshold.false_alarms:g}; "
        f"{figures.false_alarm_episodes} in {figures.healthy_days:,})",
        f"healthy vehicles ever alarmed: {100 * figures.share_vehicles_ever_alarmed:.1f} % of {figures.vehicles}; "
        f"healthy time in alarm: {100 * figures.share_healthy_time_in_alarm:.2f} %",
    ]
    if not figures.healthy_days:
        lines = [f"false alarms: not counted, no healthy reading of {figures.vehicles} vehicles follows a burn-in"]
    if figures.detected is not None:
        lines += [
            f"faults detected at least {fleet.history.detected_before} readings before their end: "
            f"{100 * figures.detected:.0f} % of {figures.faults}",
            f"mean lead (missed = 0): {figures.lead:.1f} {unit} from the first alarm, "
            f"{figures.lead_running:.1f} from the episode still running at the end",
        ]
    return [*lines, f"cost at 10 a false alarm and 500 a missed fault: {figures.cost:,.0f}"]
