"""`anomaly simulate`: make a physical fleet that fails in known ways."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def simulate() -> None:
    """Make a physical fleet that fails in known ways."""


@app.command()
def fleet(
    out: Path = typer.Option(..., help="Folder for the tables and the fleet file; files of their names are replaced."),
    vehicles: int = typer.Option(240, help="How many vehicles."),
    days: int = typer.Option(120, help="How many days."),
    seed: int = typer.Option(1, min=0, help="The same seed gives the same fleet."),
    step: str = typer.Option("6h", help="Time between a vehicle's readings, from 1m to 1d."),
    start: str = typer.Option("2025-01-01", help="First day, as YYYY-MM-DD."),
    faults: float = typer.Option(0.26, help="Share of the vehicles that fail within the span."),
    name: str = typer.Option("simulated", help="Name of the fleet in its fleet file."),
) -> None:
    """Simulate a fleet with its readings, vehicle events, late labels, and the truth behind them."""
    import msgspec

    from anomaly.errors import UsageError
    from anomaly.simulator import SimulationConfig, write
    from anomaly.simulator import simulate as run

    settings = {"name": name, "vehicles": vehicles, "days": days, "step": step, "start": start, "fault_share": faults}
    try:
        config = msgspec.convert(settings, SimulationConfig)
    except msgspec.ValidationError as error:
        raise UsageError(f"this fleet cannot be simulated: {error}") from error
    simulation = run(config, seed)
    files = write(simulation, out)
    kinds = ", ".join(f"{row['counts']} {row['values']}" for row in _counts(simulation.truth))
    print(f"{vehicles:,} vehicles, {simulation.readings.num_rows:,} readings, {simulation.events.num_rows:,} events")
    print(f"failures: {kinds or 'none'}")
    print(f"written: {', '.join(str(file) for file in files)}")


def _counts(truth: object) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = truth["kind"].value_counts().to_pylist()  # type: ignore[index]
    return sorted(rows, key=lambda row: str(row["values"]))
