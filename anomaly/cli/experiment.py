"""`anomaly experiment`."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

DIR = typer.Option(..., "--dir", help="The run's folder, which holds `experiments/`.")
CONFIG = typer.Option(..., "--config", help="The fleet file.")
RUN = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>.")
MODELS = typer.Option(Path("models"), "--models", help="The registry.")
JSON = typer.Option(False, "--json", help="Print it as JSON.")


@app.callback()
def experiment() -> None:
    """Roll models out to a share of the vehicles, and see what came of it."""


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
        print(
            "  "
            + ", ".join(
                f"{arm.name} ({arm.model or 'the champion'}{', a shadow' if arm.mode == 'shadow' else ''}) "
                f"{share:.2%} of the fleet"
                for arm, share in shares
            )
        )


@app.command()
def start(
    name: str = typer.Argument(..., metavar="ID", help="The experiment."),
    config: Path = CONFIG,
    folder: Path | None = RUN,
    models: Path = MODELS,
    as_json: bool = JSON,
) -> None:
    """Begin an experiment: its models are pinned, and the first step of its ramp acts from the next batch on."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.experiments.file import load
    from anomaly.experiments.report import report, status_line
    from anomaly.registry.store import Registry
    from anomaly.service.look import known
    from anomaly.service.look import start as begin

    fleet = fleets.load(config)
    run = folder or Path("run") / fleet.name
    plan = load(run / "experiments" / f"{name}.toml")
    state = begin(run, fleet, plan, Registry(models), known(run, fleet).now)
    found = report(run / "experiments", name)
    print(msgspec.json.encode(state).decode() if as_json else status_line(found))


@app.command()
def step(
    name: str = typer.Argument(..., metavar="ID", help="The experiment."),
    config: Path = CONFIG,
    folder: Path | None = RUN,
    models: Path = MODELS,
    as_json: bool = JSON,
) -> None:
    """Begin an experiment, or look at its arms and do what its file says: go on, promote or roll back."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.experiments.report import report, status_line
    from anomaly.registry.store import Registry
    from anomaly.service.control import alone
    from anomaly.service.look import conclude, known

    fleet = fleets.load(config)
    run = folder or Path("run") / fleet.name
    report(run / "experiments", name)
    with alone(run):
        state = conclude(run, fleet, name, Registry(models), known(run, fleet))
    found = report(run / "experiments", name)
    print(msgspec.json.encode(state).decode() if as_json else status_line(found))


@app.command("run")
def run_controller(
    config: Path = CONFIG,
    folder: Path | None = RUN,
    models: Path = MODELS,
    every_s: float = typer.Option(60.0, "--every", min=0.1, metavar="SECONDS", help="Time between looks."),
) -> None:
    """Control all experiments of a run until SIGTERM or Ctrl-C: begin new files, ramp up, promote, roll back."""
    from anomaly import fleet as fleets
    from anomaly.registry.store import Registry
    from anomaly.service import logs
    from anomaly.service.control import control

    logs.configure("info")
    fleet = fleets.load(config)
    raise typer.Exit(control(folder or Path("run") / fleet.name, fleet, Registry(models), every_s))


@app.command()
def stop(
    name: str = typer.Argument(..., metavar="ID", help="The experiment."),
    reason: str = typer.Option(..., "--reason", help="Why, for the audit trail."),
    folder: Path = DIR,
    as_json: bool = JSON,
) -> None:
    """End an experiment by hand: everybody scores with the champion again."""
    import msgspec

    from anomaly.experiments import controller
    from anomaly.experiments.report import report, status_line
    from anomaly.service.control import alone

    with alone(folder):
        state = controller.stop(folder / "experiments", name, 0, reason)
    found = report(folder / "experiments", name)
    print(msgspec.json.encode(state).decode() if as_json else status_line(found))


@app.command()
def status(
    name: str | None = typer.Argument(None, metavar="[ID]", help="One experiment; all of them, if left out."),
    folder: Path = DIR,
    as_json: bool = JSON,
) -> None:
    """Where experiments stand, a line each."""
    import msgspec

    from anomaly.experiments.file import names
    from anomaly.experiments.report import report, status_line

    home = folder / "experiments"
    found = [report(home, each) for each in ([name] if name else names(home))]
    if as_json:
        told = [
            {"id": one.experiment.id, "state": one.state, "beside": one.evidence.beside if one.evidence else None}
            for one in found
        ]
        print(msgspec.json.encode(told).decode())
        return
    for one in found:
        print(status_line(one))


@app.command("report")
def report_experiment(
    name: str = typer.Argument(..., metavar="ID", help="The experiment."),
    folder: Path = DIR,
    config: Path | None = typer.Option(None, "--config", help="The fleet file: times are then printed in words."),
    html: Path | None = typer.Option(None, "--html", help="Write it as one HTML file that needs no network."),
    as_json: bool = JSON,
) -> None:
    """The arms, how they differ, how sure that is, and what was done when and why."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.alerts.text import when
    from anomaly.experiments.page import page
    from anomaly.experiments.report import report, report_lines

    unit = None if config is None else fleets.load(config).fleet.time_unit
    said = str if unit is None else lambda ts: when(ts, unit)
    found = report(folder / "experiments", name)
    if html is not None:
        html.write_text(page(found, said), encoding="utf-8")
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    for line in report_lines(found, said):
        print(line)
