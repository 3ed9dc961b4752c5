"""`anomaly loop` and `anomaly simulate loop`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly.cli.simulate import app as simulate_app

if TYPE_CHECKING:
    from training.loop.place import Place

app = typer.Typer(add_completion=False, rich_markup_mode=None)

CONFIG = typer.Option(..., "--config", help="The fleet file.")
RUN = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>.")
JSON = typer.Option(False, "--json", help="Print it as JSON.")

__all__ = ["app", "simulate_app"]


@simulate_app.command("loop")
def year(
    world: Path = typer.Option(..., "--world", help="What happens in the year: a world file such as year.toml."),
    out: Path = typer.Option(..., "--out", help="Folder for year.json, year.html and the fleet files."),
    seed: int = typer.Option(1, "--seed", min=0, help="The first seed."),
    seeds: int = typer.Option(5, "--seeds", min=1, help="How many worlds, by seeds one after the other."),
    workers: int = typer.Option(1, "--workers", min=1, help="Processes; the figures are the same."),
    as_json: bool = JSON,
) -> None:
    """A year of a fleet that changes, under the loop and under other policies: what each costs. No person acts."""
    import msgspec

    from training.loop.comparison import run_seeds
    from training.loop.page import page
    from training.loop.world import load_world
    from training.loop.year import Year

    def said(year: Year) -> None:
        print(f"seed {year.seed}: {year.policy} cost {year.cost:,.0f}", file=sys.stderr)

    file = load_world(world)
    out.mkdir(parents=True, exist_ok=True)
    found = run_seeds(file, range(seed, seed + seeds), out, said, workers)
    content = msgspec.json.encode(found)
    (out / "year.json").write_bytes(content + b"\n")
    (out / "year.html").write_text(page(file, found), encoding="utf-8")
    if as_json:
        print(content.decode())
        return
    for one in found.against:
        print(f"loop against {one.policy}: cost {one.median:+.1%} ({one.low:+.1%} to {one.high:+.1%})")
    calm = found.against_steady
    print(f"without the step, against frozen: cost {calm.median:+.1%} ({calm.low:+.1%} to {calm.high:+.1%})")
    print(f"written: {out / 'year.json'}, {out / 'year.html'}")


@app.callback(invoke_without_command=True)
def loop(
    context: typer.Context,
    config: Path | None = typer.Option(None, "--config", help="The fleet file."),
    folder: Path | None = RUN,
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    file: Path | None = typer.Option(None, "--loop", help="What is decided about the loop; default DIR/loop.toml."),
    data: Path | None = typer.Option(None, "--data", help="Readings from before the archive begins."),
    events: Path | None = typer.Option(None, "--events", help="Vehicle events."),
    once: bool = typer.Option(False, "--once", help="One pass, for cron; else until Ctrl-C."),
    every: float = typer.Option(60.0, "--every", min=0.1, help="Seconds between two passes."),
) -> None:
    """Watch, retrain, gate, try, promote or roll back: the closed loop, by itself."""
    if context.invoked_subcommand is not None:
        return
    from anomaly import fleet as fleets
    from anomaly.errors import UsageError
    from anomaly.registry.store import Registry
    from anomaly.telemetry.files import inspect_history, read_events
    from training.loop.file import load_loop
    from training.loop.place import Place, alone

    if config is None:
        raise UsageError("give --config FLEET.toml, the fleet file")
    fleet = fleets.load(config)
    run = folder or Path("run") / fleet.name
    decided = load_loop(file or run / "loop.toml")
    past = inspect_history(data, fleet).batch if data else None
    told = tuple(read_events(events, fleet)) if events else ()
    place = Place(fleet, Registry(models), run, decided, past, told)
    with alone(place.folder):
        _turn(place, None if once else every)


def _turn(place: Place, every_s: float | None) -> None:
    """Pass after pass, `every_s` seconds between two; None: one pass. DataError if that finds no reading."""
    import time

    from anomaly.errors import DataError
    from training.loop.autopilot import steps
    from training.loop.machine import Machine, Store
    from training.loop.place import newest

    missing = f"{place.run} holds no reading yet: `anomaly score` writes them; or give another --dir"
    store: Store | None = None
    while True:
        at = newest(place)
        if at is None and every_s is None:
            raise DataError(missing)
        if at is None:
            print(missing, file=sys.stderr)
        else:
            store = store or Store(place.folder / "loop.db")
            moved = Machine(store, steps(place), frozenset(place.file.wait_for_person)).run_once(at)
            now = store.current(at)
            print(f"cycle {now.id}: {now.state}, {now.reason} ({moved} steps)", file=sys.stderr)
        if every_s is None:
            return
        time.sleep(every_s)


@app.command()
def status(
    config: Path = CONFIG,
    folder: Path | None = RUN,
    last: int = typer.Option(10, "--last", min=1, help="How many steps of the past are shown."),
    as_json: bool = JSON,
) -> None:
    """Where the loop stands, since when and why, and what it did."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.errors import DataError
    from training.loop.file import load_loop
    from training.loop.machine import Store
    from training.loop.status import lines, status_of

    fleet = fleets.load(config)
    run = folder or Path("run") / fleet.name
    path = run / "loop" / "loop.db"
    if not path.exists():
        raise DataError(f"{path} is not there: `anomaly loop --config {config}` has not run yet, or give another --dir")
    store = Store(path)
    found = status_of(store, load_loop(run / "loop.toml"), last)
    store.close()
    if found is None:
        raise DataError(f"{path} has no cycle yet: `anomaly loop --config {config}` had nothing to begin with")
    print(msgspec.json.encode(found).decode() if as_json else "\n".join(lines(found, fleet)))


@app.command()
def approve(
    state: str = typer.Argument(..., help="The state that waits for a person, as `status` shows it."),
    config: Path = CONFIG,
    folder: Path | None = RUN,
) -> None:
    """Let the loop do the step that it waits with."""
    from anomaly import fleet as fleets
    from anomaly.errors import UsageError
    from training.loop.machine import STATES, Store

    fleet = fleets.load(config)
    known = {name: name for name in STATES}
    if state not in known:
        raise UsageError(f"`{state}` is no state of the loop; one of {', '.join(STATES)}")
    store = Store((folder or Path("run") / fleet.name) / "loop" / "loop.db")
    cycle = store.approve(known[state])
    store.close()
    print(f"cycle {cycle.id}: {state} is approved; the next pass of the loop does it")
