"""`anomaly backtest`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from anomaly.fleet import Fleet
    from training.figures import Figures


def backtest(
    config: Path = typer.Option(..., "--config", help="The fleet file."),
    data: Path = typer.Option(..., "--data", help="The past to score: Parquet, Arrow or CSV."),
    model: str | None = typer.Option(
        None, "--model", help="NAME@ALIAS, NAME/NUMBER or a digest, default the champion; or river:DETECTOR to compare."
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
    from anomaly import fleet as fleets
    from anomaly.engine.frame import Frame
    from anomaly.feedback.archive import write_table
    from anomaly.registry.store import Registry
    from training.backtest import backtest as run
    from training.history import Sources, load_history, split_vehicles
    from training.peers import PREFIX, backtest_river

    fleet = fleets.load(config)
    peer = model.removeprefix(PREFIX) if model and model.startswith(PREFIX) else None
    registry = Registry(models)
    found = registry.load(registry.resolve(f"{fleet.name}@champion" if model is None or peer else model))
    history = load_history(fleet, Sources(data, events, labels), strict)
    for note in history.notes:
        print(f"note: {note}", file=sys.stderr)
    parts = split_vehicles(history.names, 0, split)
    frame = Frame.from_json(found.frame)
    if peer:
        figures = backtest_river(fleet, frame, peer, history, parts)
        _show(figures, fleet, [f"river.anomaly.{peer}, one a vehicle, on {figures.vehicles} vehicles"], as_json)
        return
    result = run(fleet, frame, found.engine_model(), history if split is None else history.of(parts.test))
    if out:
        write_table(result.decisions, out)
    masked = ", ".join(f"{count:,} {name}" for name, count in result.masked.items() if count)
    head = f"{found.manifest.reference} on {result.figures.vehicles} vehicles, {len(result.decisions):,} decisions"
    _show(result.figures, fleet, [head, *([f"  masked values: {masked}"] if masked else [])], as_json)


def _show(figures: Figures, fleet: Fleet, head: list[str], as_json: bool) -> None:
    import msgspec

    from training.train import describe

    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        print("\n".join([*head, *(f"  {line}" for line in describe(figures, fleet))]))
