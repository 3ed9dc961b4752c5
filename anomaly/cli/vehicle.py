"""`anomaly vehicle`: what is known of one vehicle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly import fleet as fleets
from anomaly.cli.times import parse_time
from anomaly.cli.topics import AS_JSON, CONFIG
from anomaly.fleet import TimeUnit

if TYPE_CHECKING:
    from anomaly.service.explain import Explained, SignalPart
    from anomaly.service.inspect import Shown

app = typer.Typer(help="What is known of one vehicle.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """What is known of one vehicle."""


@app.command()
def show(
    vehicle: str = typer.Argument(..., help="The vehicle, as the stream names it."),
    at: str | None = typer.Option(None, "--at", metavar="TIME", help="As it was then: 2026-01-31T12:00, or a `ts`."),
    config: Path = CONFIG,
    folder: Path | None = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    group: str | None = typer.Option(None, "--group", help="The group that scores; default the fleet's name."),
    as_json: bool = AS_JSON,
) -> None:
    """Show a vehicle's baseline, evidence, threshold, model and open alerts, now or at a time in the past."""
    import msgspec

    from anomaly.registry.store import Registry
    from anomaly.service.inspect import show_vehicle
    from anomaly.service.replay import Run

    fleet = fleets.load(config)
    run = Run(folder or Path("run") / fleet.name, group or fleet.name, Registry(models))
    ticks = None if at is None else _ticks(at, fleet.fleet.time_unit)
    shown = show_vehicle(fleet, run, vehicle, ticks)
    print(msgspec.json.encode(shown).decode() if as_json else _text(shown, fleet.fleet.time_unit))


@app.command()
def explain(
    vehicle: str = typer.Argument(..., help="The vehicle, as the stream names it."),
    at: str | None = typer.Option(None, "--at", metavar="TIME", help="As it was then: 2026-01-31T12:00, or a `ts`."),
    plot: Path | None = typer.Option(None, "--plot", metavar="FILE.svg", help="Draw its level into this file."),
    config: Path = CONFIG,
    folder: Path | None = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    group: str | None = typer.Option(None, "--group", help="The group that scores; default the fleet's name."),
    as_json: bool = AS_JSON,
) -> None:
    """Say why a vehicle was scored as it was: what is the fleet's and what its own, since when, by which signals."""
    import msgspec

    from anomaly.alerts.picture import level_picture
    from anomaly.alerts.text import when
    from anomaly.registry.store import Registry
    from anomaly.service.explain import explain_vehicle
    from anomaly.service.replay import Run

    fleet = fleets.load(config)
    unit = fleet.fleet.time_unit
    run = Run(folder or Path("run") / fleet.name, group or fleet.name, Registry(models))
    found = explain_vehicle(fleet, run, vehicle, None if at is None else _ticks(at, unit))
    if plot is not None:
        past = [(moment.ts, moment.level, moment.kind) for moment in found.past]
        words = when(past[0][0], unit), when(past[-1][0], unit)
        plot.write_text(level_picture(f"vehicle {vehicle}: level by {found.model}", past, found.onset, words))
    print(msgspec.json.encode(found).decode() if as_json else _explained(found, unit))


def _ticks(text: str, unit: TimeUnit) -> int:
    return int(text) if text.removeprefix("-").isdecimal() else parse_time(text, unit, "--at", "number of ticks")


def _text(shown: Shown, unit: TimeUnit) -> str:
    from anomaly.alerts.text import when

    lines = [
        f"vehicle {shown.vehicle}, partition {shown.partition}, last reading at {when(shown.last_ts, unit)}",
        f"  {shown.readings} readings in its baseline, {shown.warm:.0%} its own; regime {shown.regime}",
        f"  scored by {shown.model} (arm {shown.arm}), threshold {shown.threshold:.3g} nats",
        *(
            [f"  beside it {shown.shadow.model} as a shadow, threshold {shown.shadow.threshold:.3g} nats"]
            if shown.shadow
            else []
        ),
        "  no open episode"
        if shown.episode_start is None
        else f"  in an episode since {when(shown.episode_start, unit)}",
        "  signal: expected, evidence in healthy spreads",
    ]
    ordered = sorted(shown.signals, key=lambda signal: -abs(signal.evidence))
    lines += [f"    {s.name}: {f'{s.expected:.4g} {s.unit}'.strip()}, {s.evidence:+.2f}" for s in ordered]
    lines += [f"  alert {alert.id}, severity {alert.severity}: {alert.text}" for alert in shown.alerts]
    return "\n".join(lines)


def _explained(found: Explained, unit: TimeUnit) -> str:
    from anomaly.alerts.text import when

    state = found.kind.replace("_", " ") or "no alarm"
    lines = [
        f"vehicle {found.vehicle} at {when(found.ts, unit)}: {state}, level {found.level:.2f} "
        f"(score {found.score:.2f} of {found.threshold:.2f} nats) by {found.model}, arm {found.arm}",
        f"  {found.warm:.0%} of its baseline is its own"
        + (f", {found.missing} readings are missing until it is warm" if found.missing else "")
        + f"; regime {found.regime}",
    ]
    if found.onset is not None:
        lines.append(f"  above what is usual for it since {when(found.onset, unit)}")
    if found.shift_since is not None:
        lines.append(f"  changed for good since {when(found.shift_since, unit)}, and nobody said what it was")
    if found.in_maintenance:
        lines.append("  in maintenance: no alarm, nothing learned")
    if found.fault_confirmed:
        lines.append("  a fault is confirmed: nothing learned until it is fixed")
    if found.unconfirmed:
        lines.append(
            f"  {_times(found.unconfirmed)} it alarmed and no fault was confirmed: its threshold is higher for that"
        )
    lines.append("  share of the score: actual against expected (= fleet in this regime + cohort + its own)")
    lines += [f"    {part.share:4.0%} {_part(part)}" for part in found.signals]
    return "\n".join(lines)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _part(part: SignalPart) -> str:
    actual = "missing" if part.actual is None else f"{part.actual:.4g}"
    unit = f" {part.unit}" if part.unit else ""
    return (
        f"{part.name}: {actual} against {part.expected:.4g}{unit} "
        f"(= {part.fleet:.4g} {part.cohort:+.3g} {part.own:+.3g}), evidence {part.evidence:+.2f}"
    )
