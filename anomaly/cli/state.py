"""`anomaly state`: how much memory and disk the state of vehicles takes, now and for a fleet to come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly import fleet as fleets
from anomaly.cli.topics import AS_JSON, CONFIG
from anomaly.errors import UsageError
from anomaly.fleet import Fleet

if TYPE_CHECKING:
    from anomaly.service.census import Forecast, Stats

app = typer.Typer(help="What the state of vehicles takes up.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def stats(
    config: Path = CONFIG,
    folder: Path | None = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    group: str | None = typer.Option(None, "--group", help="The group that scores; default the fleet's name."),
    as_json: bool = AS_JSON,
) -> None:
    """Show for each partition its vehicles in memory and idle ones, and the bytes of their state there and on disk."""
    import msgspec

    from anomaly.registry.store import Registry
    from anomaly.service import census
    from anomaly.service.replay import Run

    fleet = fleets.load(config)
    run = Run(folder or Path("run") / fleet.name, group or fleet.name, Registry(models))
    found = census.stats(fleet, run)
    print(msgspec.json.encode(found).decode() if as_json else _table(found))


@app.command()
def forecast(
    vehicles: int = typer.Option(..., "--vehicles", min=1, help="How many vehicles there will be."),
    signals: int | None = typer.Option(None, "--signals", min=1, help="Signals that are scored, without a fleet file."),
    config: Path | None = typer.Option(None, "--config", help="The fleet file."),
    id_bytes: int = typer.Option(15, "--id-bytes", min=1, max=255, help="Bytes of a vehicle's id."),
    as_json: bool = AS_JSON,
) -> None:
    """Say how much memory one scorer process and how much disk its stores need for so many vehicles, before a start."""
    import msgspec

    from anomaly.service import census

    if (signals is None) == (config is None):
        raise UsageError("for which vehicles? Give --config FLEET.toml, or --signals D")
    fleet = _plain(signals or 0) if config is None else fleets.load(config)
    found = census.forecast(fleet, vehicles, census.base_bytes(), id_bytes)
    print(msgspec.json.encode(found).decode() if as_json else _text(found))


def _plain(signals: int) -> Fleet:
    """A fleet file of one partition that says nothing but how many signals there are."""
    names = {f"s{number}": fleets.Signal() for number in range(signals)}
    table = fleets.FleetTable(name="plain", vehicle="vehicle", time="ts", time_unit="s")
    return Fleet(fleet=table, signals=names, stream=fleets.Stream(partitions=1))


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f}"


def _table(found: list[Stats]) -> str:
    head = ("partition", "vehicles", "idle", "B/vehicle", "memory", "pages", "deltas", "idle", "rows", "file")
    rows = [
        (
            "all" if part.partition is None else str(part.partition),
            f"{part.vehicles:,}",
            f"{part.idle:,}",
            f"{part.bytes_a_vehicle:,.0f}",
            *map(_mb, (part.memory, part.pages, part.deltas, part.idle_state, part.rows, part.file)),
        )
        for part in found
    ]
    lines = ["".join(f"{cell:>12}" for cell in row) for row in (head, *rows)]
    return "\n".join([*lines, "memory and all to the right of it in MB; pages to rows are in the stores"])


def _text(found: Forecast) -> str:
    lines = [
        f"{found.vehicles:,} vehicles, {found.in_memory:,} of them in memory",
        f"  memory  {_mb(found.memory)} MB: {_mb(found.base)} MB of the process, {_mb(found.state)} MB of vehicles "
        f"({found.bytes_a_vehicle:,.0f} B each);",
        "          what is kept between two checkpoints comes on top, most while a backlog is scored",
        f"  disk    {_mb(found.disk)} MB of state after a first checkpoint, at most {_mb(found.disk_most)} MB",
    ]
    if found.a_cohort:
        lines.append(f"  and {found.a_cohort:,} B for each cohort")
    return "\n".join(lines)
