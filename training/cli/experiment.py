"""`anomaly experiment`, with the commands that need a fleet's past or simulated ones: plan, simulate, verify."""

from __future__ import annotations

from pathlib import Path

import typer

from anomaly.cli.experiment import CONFIG, JSON, RUN, app

FILE = typer.Argument(..., help="An experiment file.")

__all__ = ["app"]


@app.command()
def plan(
    file: Path = FILE,
    config: Path = CONFIG,
    folder: Path | None = RUN,
    accept_underpowered: bool = typer.Option(
        False, "--accept-underpowered", help="Take guardrails that could not fire at the harm that they are for."
    ),
    as_json: bool = JSON,
) -> None:
    """Say before a start what the experiment could find on this fleet, and by when; exit 1 for a blind guardrail."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.errors import GateError
    from anomaly.experiments.file import load
    from training.experiments.past import read_past
    from training.experiments.plan import plan as made

    fleet, experiment = fleets.load(config), load(file)
    found = made(experiment, read_past(folder or Path("run") / fleet.name, fleet, experiment))
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        print(f"{experiment.id}: {found.vehicles} vehicles take part, by {found.past_days} days of the past")
        for one in found.metrics:
            base = "unknown" if one.base is None else f"{one.base:.3g}"
            size = "nothing" if one.difference is None else f"{one.difference:.3g}"
            days = f"after {one.days} days" if one.days else f"not within {experiment.max_days:g} days"
            print(
                f"  {one.metric} ({one.role}, {one.method}): now {base}; a difference of {size} is found with a power "
                f"of {one.power:.0%}, with 80 % {days}; some {one.events:.0f} events"
            )
    if found.underpowered and not accept_underpowered:
        named = ", ".join(one.metric for one in found.underpowered)
        raise GateError(
            f"experiment {experiment.id}: the guardrails {named} could hardly fire at the harm that they are for; give "
            "more vehicles or days, state a larger harm, or pass --accept-underpowered"
        )


@app.command()
def simulate(
    file: Path = FILE,
    config: Path = CONFIG,
    folder: Path | None = RUN,
    runs: int = typer.Option(200, "--runs", min=1, help="How often the past is replayed."),
    false_alarms: float = typer.Option(
        0.0, "--false-alarms", min=-1.0, help="Effect on false alarms: -0.2 is 20 % fewer; 0: none."
    ),
    missed: float = typer.Option(0.0, "--missed", min=0.0, max=1.0, help="Part of the found faults that it misses."),
    as_json: bool = JSON,
) -> None:
    """Replay the fleet's past with an effect, or none: how often this file would promote, hold or roll back."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.experiments.file import load
    from training.experiments.past import read_past
    from training.experiments.simulate import Effect
    from training.experiments.simulate import simulate as replayed

    fleet, experiment = fleets.load(config), load(file)
    seen = read_past(folder or Path("run") / fleet.name, fleet, experiment)
    found = replayed(experiment, seen, Effect(false_alarms, missed), runs)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    print(f"{experiment.id}, {found.runs} replays of {seen.days} days of {found.vehicles} vehicles:")
    for word, share, days in (
        ("promoted", found.promoted, found.days_to_promotion),
        ("rolled back", found.rolled_back, found.days_to_rollback),
        ("held", found.held, None),
    ):
        print(f"  {word} {share:.1%}" + (f", after {days:.0f} days in the median" if days is not None else ""))


@app.command()
def verify(
    runs: int = typer.Option(2_000, "--runs", min=20, help="Simulated experiments of each kind."),
    workers: int = typer.Option(2, "--workers", min=1, help="Processes."),
    as_json: bool = JSON,
) -> None:
    """Try the statistics on thousands of simulated experiments; exit 1 if one errs more often than it says."""
    import msgspec

    from anomaly.errors import GateError
    from training.experiments.verify import verify as verified

    figures = verified(runs, workers)
    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        for one in figures:
            wanted = "" if one.demand == "reported" else f", {one.demand} {one.bound:g} wanted"
            after = "" if one.median_vehicles is None else f", after {one.median_vehicles:,} vehicles in the median"
            print(f"{'ok  ' if one.met else 'MISS'} {one.world}, {one.method}: {one.rejected:.4g}{wanted}{after}")
    missed = [one for one in figures if not one.met]
    if missed:
        raise GateError(f"{len(missed)} of {len(figures)} demands are not met, {missed[0].method} the first")
