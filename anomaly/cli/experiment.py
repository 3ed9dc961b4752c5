"""`anomaly experiment`."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

DIR = typer.Option(..., "--dir", help="The run's folder, which holds `experiments/`.")
JSON = typer.Option(False, "--json", help="Print it as JSON.")


@app.callback()
def experiment() -> None:
    """See and compare the arms of a rollout."""


@app.command()
def check(
    file: Path = typer.Argument(..., help="An experiment file."),
    as_json: bool = JSON,
) -> None:
    """Say what is wrong with an experiment file, or what it will do."""
    import msgspec

    from anomaly.experiments.assignment import propensities, read_salt
    from anomaly.experiments.file import load

    plan = load(file)
    read_salt(plan)
    if as_json:
        print(msgspec.json.encode({"experiment": plan, "digest": plan.digest()}).decode())
        return
    print(f"{plan.id}, revision {plan.revision}, digest {plan.digest()[:12]}")
    for step in plan.ramp:
        shares = zip(plan.arms, propensities(plan, step.share), strict=True)
        print("  " + ", ".join(f"{arm.name} ({arm.model}) {share:.2%} of the fleet" for arm, share in shares))


@app.command()
def step(
    name: str = typer.Argument(..., metavar="ID", help="The experiment."),
    config: Path = typer.Option(..., "--config", help="The fleet file."),
    folder: Path | None = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    as_json: bool = JSON,
) -> None:
    """Begin an experiment, or look at its arms and do what its file says: go on, promote or roll back."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.experiments.report import report, status_line
    from anomaly.registry.store import Registry
    from anomaly.service.look import conclude, known

    fleet = fleets.load(config)
    run = folder or Path("run") / fleet.name
    plan = report(run / "experiments", name).experiment
    state = conclude(run, fleet, plan, Registry(models), known(run, fleet))
    found = report(run / "experiments", name)
    print(msgspec.json.encode(state).decode() if as_json else status_line(found))


@app.command()
def status(
    name: str | None = typer.Argument(None, metavar="[ID]", help="One experiment; all of them, if left out."),
    folder: Path = DIR,
    as_json: bool = JSON,
) -> None:
    """Where experiments stand, a line each."""
    import msgspec

    from anomaly.experiments.report import report, status_line

    home = folder / "experiments"
    names = [name] if name else sorted(path.stem for path in home.glob("*.toml"))
    found = [report(home, each) for each in names]
    if as_json:
        print(msgspec.json.encode([{"id": one.experiment.id, "state": one.state} for one in found]).decode())
        return
    for one in found:
        print(status_line(one))


@app.command("report")
def report_experiment(
    name: str = typer.Argument(..., metavar="ID", help="The experiment."),
    folder: Path = DIR,
    config: Path | None = typer.Option(None, "--config", help="The fleet file: times are then printed in words."),
    as_json: bool = JSON,
) -> None:
    """The arms, how they differ, and what was done when and why."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.alerts.text import when
    from anomaly.experiments.report import report, report_lines

    unit = None if config is None else fleets.load(config).fleet.time_unit
    found = report(folder / "experiments", name)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    for line in report_lines(found, str if unit is None else lambda ts: when(ts, unit)):
        print(line)
