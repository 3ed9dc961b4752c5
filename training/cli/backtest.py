"""`anomaly backtest`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer


def backtest(
    config: Path = typer.Option(..., "--config", help="The fleet file."),
    data: Path = typer.Option(..., "--data", help="The past to score: Parquet, Arrow or CSV."),
    model: str | None = typer.Option(
        None, "--model", help="NAME@ALIAS, NAME/NUMBER or a digest; default the champion."
    ),
    events: Path | None = typer.Option(None, "--events", help="Vehicle events of that time."),
    labels: Path | None = typer.Option(None, "--labels", help="Labels of that time."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    split: int | None = typer.Option(None, "--split", min=0, help="Only the test vehicles of this split."),
    out: Path | None = typer.Option(None, "--out", help="Write the decisions to this Parquet file."),
    strict: bool = typer.Option(False, "--strict", help="Refuse data that the quality gate would mask."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
) -> None:
    """Score a past as the live scorer would have, and say how good that was."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.engine.frame import Frame
    from anomaly.feedback.archive import write_table
    from anomaly.registry.store import Registry
    from training.backtest import backtest as run
    from training.history import Sources, load_history, split_vehicles
    from training.train import describe

    fleet = fleets.load(config)
    reference = model or f"{fleet.name}@champion"
    registry = Registry(models)
    found = registry.load(registry.resolve(reference))
    history = load_history(fleet, Sources(data, events, labels), strict)
    for note in history.notes:
        print(f"note: {note}", file=sys.stderr)
    if split is not None:
        history = history.of(split_vehicles(history.names, 0, split).test)
    result = run(fleet, Frame.from_json(found.frame), found.engine_model(), history)
    if out:
        write_table(result.decisions, out)
    if as_json:
        print(msgspec.json.encode(result.figures).decode())
        return
    masked = ", ".join(f"{count:,} {name}" for name, count in result.masked.items() if count)
    print(f"{found.manifest.reference} on {result.figures.vehicles} vehicles, {len(result.decisions):,} decisions")
    if masked:
        print(f"  masked values: {masked}")
    for line in describe(result.figures, fleet):
        print(f"  {line}")
