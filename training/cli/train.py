"""`anomaly train`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer


def train(
    config: Path = typer.Option(..., "--config", help="The fleet file."),
    data: Path = typer.Option(..., "--data", help="The history: Parquet, Arrow or CSV."),
    events: Path | None = typer.Option(None, "--events", help="Vehicle events of that time."),
    labels: Path | None = typer.Option(None, "--labels", help="Labels of that time."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    split: int | None = typer.Option(None, "--split", min=0, help="Use the 60 and 20 % of this split of the vehicles."),
    seed: int = typer.Option(0, "--seed", help="Seed of all that is drawn."),
    keep_frame: bool = typer.Option(
        True, "--keep-frame/--refit-frame", help="Keep the champion's frame, so that vehicle state stays valid."
    ),
    strict: bool = typer.Option(False, "--strict", help="Refuse data that the quality gate would mask."),
    as_json: bool = typer.Option(False, "--json", help="Print the manifest as JSON."),
) -> None:
    """Turn a fleet's history into a model in the registry; the first one becomes champion."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.engine.cohort_check import why_off
    from anomaly.registry.store import Registry
    from training.auto import train as fit
    from training.history import Sources, load_history, split_vehicles
    from training.train import Recipe, champion_frame, describe, publish

    fleet = fleets.load(config)
    registry = Registry(models)
    history = load_history(fleet, Sources(data, events, labels), strict)
    for note in history.notes:
        print(f"note: {note}", file=sys.stderr)
    parts = split_vehicles(history.names, seed, split)
    for note in parts.notes:
        print(f"note: {note}", file=sys.stderr)
    frame = champion_frame(registry, fleet) if keep_frame else None
    used = history.of([*parts.train, *parts.validation])
    trained = fit(fleet, used, parts, seed, frame)
    off = why_off(fleet, trained.checks.cohort)
    if off:
        print(f"note: {off}", file=sys.stderr)
    manifest = publish(registry, Recipe(fleet, used, parts, seed), trained)
    if as_json:
        print(msgspec.json.encode(manifest).decode())
        return
    champion = registry.aliases(fleet.name).get("champion") == manifest.number
    print(f"{manifest.reference}{' (champion)' if champion else ''}: {trained.family}, k = {trained.k:.3f} nats")
    if trained.choice:
        print(f"family: {trained.choice.why}")
    print("on the later readings:" if parts.blocked else f"on {len(parts.validation)} validation vehicles:")
    for line in describe(trained.figures, fleet):
        print(f"  {line}")
    if not champion:
        print(f"`anomaly models promote {manifest.reference}` makes it champion")
