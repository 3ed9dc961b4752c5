"""`anomaly simulate`: make a physical fleet that fails in known ways."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def simulate() -> None:
    """Make a physical fleet that fails in known ways."""


@app.command()
def fleet(
    out: Path = typer.Option(..., help="Folder for the tables and the fleet file; files of their names are replaced."),
    scenario: str = typer.Option("demo", help="What happens to the fleet: demo, or A to J, see `simulate scenarios`."),
    vehicles: int | None = typer.Option(None, help="How many vehicles, instead of the scenario's own number."),
    days: int | None = typer.Option(None, help="How many days, instead of the scenario's own number."),
    seed: int = typer.Option(1, min=0, help="The same seed gives the same fleet."),
    every: str = typer.Option("6h", help="Time between a vehicle's readings, from 1s to 1d."),
    start: str | None = typer.Option(None, help="First day, as YYYY-MM-DD, instead of the scenario's own."),
    faults: float | None = typer.Option(None, help="Share of the vehicles that fail (after the history)."),
    kinds: str | None = typer.Option(None, help="Kinds of fault after the history, with commas; all, if not said."),
    history_kinds: str | None = typer.Option(None, help="Kinds of fault in the history; all, if not said."),
    name: str | None = typer.Option(None, help="Name of the fleet in its fleet file."),
) -> None:
    """Simulate a fleet: readings, vehicle events, late labels, and the truth and the nuisances behind them."""
    from anomaly.simulator import scenario as named
    from anomaly.simulator import write

    changes = {"vehicles": vehicles, "days": days, "every": every, "start": start, "faults": faults, "name": name}
    lists = {"kinds": kinds, "history_kinds": history_kinds}
    said = {key: value for key, value in changes.items() if value is not None}
    listed = {key: [kind.strip() for kind in text.split(",")] for key, text in lists.items() if text}
    config = named(scenario, **said, **listed)
    made = write(config, seed, out)
    failed = Counter(made.truth["kind"].to_pylist())
    print(f"{config.vehicles:,} vehicles, {made.readings:,} readings, {made.events.num_rows:,} events")
    print(f"failures: {', '.join(f'{count} {kind}' for kind, count in sorted(failed.items())) or 'none'}")
    if config.train_share:
        print(f"history ends before ts = {config.train_until_ms}")
    print(f"written: {', '.join(str(file) for file in made.files)}")


@app.command()
def scenarios(as_json: bool = typer.Option(False, "--json", help="Print every setting of each as JSON.")) -> None:
    """List the fleets that can be simulated by name."""
    import msgspec

    from anomaly.simulator import SCENARIOS

    if as_json:
        print(msgspec.json.encode({name: {"about": about, **msgspec.to_builtins(config)}
                                   for name, (about, config) in SCENARIOS.items()}).decode())  # fmt: skip
        return
    for name, (about, config) in SCENARIOS.items():
        print(f"{name:5} {config.vehicles} vehicles, {config.days} days: {about}")
