"""`anomaly demo`."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from anomaly.fleet import Fleet
    from anomaly.telemetry.records import Alert
    from training.demo import Summary

SHOWN_ALERTS = 12


class Terminal:
    """Shows the demo as it goes: lines, and on a terminal a bar below them."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("  scoring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = console
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("readings", total=None, visible=False)
        self._stages = self._shown = 0
        self._said_s = time.monotonic()

    def __enter__(self) -> Terminal:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """A new part of the loop begins."""
        if self._shown > SHOWN_ALERTS:
            self.line(f"     and {self._shown - SHOWN_ALERTS} more")
        self._stages += 1
        self._shown = 0
        self._console.print(f"[bold]{self._stages}. {text}[/bold]")

    def line(self, text: str) -> None:
        """Something to know of this part."""
        self._console.print(f"   {text}", highlight=False, markup=False)

    def progress(self, done: int, total: int) -> None:
        """Readings scored so far."""
        self._bar.update(self._task, completed=done, total=total, visible=True)
        if not self._console.is_terminal and time.monotonic() - self._said_s > 5:
            self._said_s = time.monotonic()
            self.line(f"{done:,} of {total:,} readings scored")

    def alert(self, alert: Alert) -> None:
        """The first alerts of a part are shown whole, the others only counted at its end."""
        if alert.state == "open":
            self._shown += 1
            if self._shown <= SHOWN_ALERTS:
                self.line(f"{'!' * alert.severity:4} {alert.text}")


def demo(
    directory: Path = typer.Option(Path("run/demo"), "--dir", help="A folder that is empty, or that a demo made."),
    seed: int | None = typer.Option(None, "--seed", min=0, help="Simulate another fleet instead of the sample."),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """The whole loop on a sample fleet: train, score, hear labels, retrain, gate, roll out, decide."""
    import msgspec
    from rich.console import Console

    from anomaly.engine.warm import warm
    from anomaly.service.logs import configure
    from training.demo import run_demo
    from training.sample import empty_folder, find_sample

    configure("warning")
    empty_folder(directory)
    console = Console(file=sys.stderr if as_json else sys.stdout, soft_wrap=True)
    console.print("warming the kernels (some ten seconds the first time)")
    warm()
    sample = find_sample(seed, directory / "data")
    with Terminal(console) as screen:
        summary = run_demo(sample, directory, screen)
    if as_json:
        print(msgspec.json.encode(summary).decode())
    else:
        _last_screen(summary, sample.fleet, directory)


def way_to_the_command() -> str | None:
    """What to type so that `anomaly` is found, None if it is: `make demo` runs it without that."""
    if shutil.which("anomaly"):
        return None
    return f"`anomaly` is not on your PATH yet; once in this shell:  . {Path(sys.prefix) / 'bin' / 'activate'}"


def _last_screen(summary: Summary, fleet: Fleet, directory: Path) -> None:
    from training.train import describe

    print()
    print(f"{summary.readings:,} readings scored, {summary.alerts} alerts. From the decision log of this run:")
    for line in describe(summary.figures, fleet):
        print(f"  {line}")
    config = directory / "data" / "fleet.toml"
    if hint := way_to_the_command():
        print(f"\n{hint}")
    print(
        f"""
Champion now: {summary.champion}. Try next:
  anomaly models list --models {directory}/models
  anomaly vehicle show {summary.vehicle} --config {config} --dir {directory}/run --models {directory}/models
  anomaly replay --config {config} --log {directory}/fleet.db --dir {directory}/run --models {directory}/models --from 0
  anomaly demo --seed 7                      another fleet
  anomaly init YOUR.parquet --vehicle COLUMN --time COLUMN > fleet.toml"""
    )
