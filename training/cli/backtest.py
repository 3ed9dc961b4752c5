"""`anomaly backtest`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from anomaly.fleet import Fleet
    from training.figures import Figures
    from training.history import Sources
    from training.sweep import Swept


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
    sweep: Literal["", "adaptation"] = typer.Option(
        "", "--sweep", help="`adaptation`: what each value of that setting would have done."
    ),
    retrain_every: str = typer.Option(
        "", "--retrain-every", help="Train on what was known, score the next stretch (30d), train again, and so on."
    ),
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
    from training.sweep import sweep_adaptation

    fleet = fleets.load(config)
    if retrain_every:
        _retrained(fleet, Sources(data, events, labels), retrain_every, as_json)
        return
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
    judged = history if split is None else history.of(parts.test)
    if sweep:
        _swept(fleet, sweep, sweep_adaptation(fleet, frame, found.engine_model(), judged), as_json)
        return
    result = run(fleet, frame, found.engine_model(), judged)
    if out:
        write_table(result.decisions, out)
    head = f"{found.manifest.reference} on {result.figures.vehicles} vehicles, {len(result.decisions):,} decisions"
    said = [*_masked(result.masked), *(f"  {alert.text}" for alert in result.cohorts)]
    _show(result.figures, fleet, [head, *said], as_json)


def _masked(counts: dict[str, int]) -> Iterator[str]:
    """What could not be used, and what was judged with care."""
    values = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count and name != "unseen_regime")
    if values:
        yield f"  masked values: {values}"
    if unseen := counts.get("unseen_regime"):
        yield f"  {unseen:,} readings in a regime that training has not seen: half as much again is needed for an alarm"


def _swept(fleet: Fleet, name: str, rows: list[Swept], as_json: bool) -> None:
    import msgspec

    if as_json:
        print(msgspec.json.encode(rows).decode())
        return
    print(f"{name:>10}   false alarms   time in alarm   detected     lead   lead, running")
    for row in rows:
        now = " (now)" if row.adaptation == fleet.threshold.adaptation else ""
        print(f"{row.adaptation:>10g}   {_line(row.figures)}{now}")
    if rows[-1].adaptation == 1.0:
        print("1 has neither bound nor gate: a slow fault becomes normal", file=sys.stderr)


def _retrained(fleet: Fleet, sources: Sources, every: str, as_json: bool) -> None:
    import msgspec

    from anomaly.duration import duration_ms
    from anomaly.errors import UsageError
    from anomaly.telemetry.files import inspect_history, read_events, read_labels
    from training.sweep import replay_training

    cycles = fleet.fleet.time_unit == "cycles"
    try:
        ticks = int(every) if cycles else fleet.ticks(every)
        duration_ms(every if not cycles else "1s")
    except ValueError as error:
        wanted = "a number of cycles, such as 50" if cycles else "a duration such as 30d"
        raise UsageError(f"--retrain-every {every}: write {wanted}") from error
    if ticks < 1:
        raise UsageError(f"--retrain-every {every}: must be longer than nothing")
    batch = inspect_history(sources.data, fleet).batch
    events = read_events(sources.events, fleet) if sources.events else []
    labels = read_labels(sources.labels, fleet) if sources.labels else []
    replayed = replay_training(fleet, batch, events, labels, ticks)
    if as_json:
        print(msgspec.json.encode(replayed).decode())
        return
    print("  trained at   readings   faults       k   false alarms   time in alarm   detected     lead   lead, running")
    for one in replayed.stretches:
        print(f"{one.trained_at:>12} {one.readings:>10,} {one.faults:>8} {one.k:>7.3f}   {_line(one.figures)}")
    print(f"{'all together':>41}   {_line(replayed.figures)}")


def _line(figures: Figures) -> str:
    found = (figures.detected, figures.lead, figures.lead_running)
    detected, lead, running = ("-" if value is None else f"{value:.2f}" for value in found)
    return (
        f"{figures.false_alarms_per_1000_days:>12.2f}   {100 * figures.share_healthy_time_in_alarm:>11.2f} %   "
        f"{detected:>8} {lead:>8} {running:>15}"
    )


def _show(figures: Figures, fleet: Fleet, head: list[str], as_json: bool) -> None:
    import msgspec

    from training.train import describe

    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        print("\n".join([*head, *(f"  {line}" for line in describe(figures, fleet))]))
