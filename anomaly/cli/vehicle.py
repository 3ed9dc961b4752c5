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


def _ticks(text: str, unit: TimeUnit) -> int:
    return int(text) if text.removeprefix("-").isdecimal() else parse_time(text, unit, "--at", "number of ticks")


def _text(shown: Shown, unit: TimeUnit) -> str:
    from anomaly.alerts.text import when

    lines = [
        f"vehicle {shown.vehicle}, partition {shown.partition}, last reading at {when(shown.last_ts, unit)}",
        f"  {shown.readings} readings in its baseline, {shown.warm:.0%} its own; regime {shown.regime}",
        f"  scored by {shown.model} (arm {shown.arm}), threshold {shown.threshold:.3g} nats",
        "  no open episode"
        if shown.episode_start is None
        else f"  in an episode since {when(shown.episode_start, unit)}",
        "  signal: expected, evidence in healthy spreads",
    ]
    ordered = sorted(shown.signals, key=lambda signal: -abs(signal.evidence))
    lines += [f"    {s.name}: {f'{s.expected:.4g} {s.unit}'.strip()}, {s.evidence:+.2f}" for s in ordered]
    lines += [f"  alert {alert.id}, severity {alert.severity}: {alert.text}" for alert in shown.alerts]
    return "\n".join(lines)
