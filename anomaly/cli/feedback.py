"""`anomaly feedback`."""

from __future__ import annotations

import sys
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly import fleet as fleets
from anomaly.cli.topics import AS_JSON, LOG, PROPERTIES, SERVER
from anomaly.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.feedback.audit import Interval
    from anomaly.feedback.queue import Task
    from anomaly.fleet import Fleet
    from anomaly.service.effect import Effect
    from anomaly.telemetry.records import Label, VehicleEvent

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

CONFIG = typer.Option(..., "--config", help="The fleet file.")
DIR = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>/.")
AT = typer.Option(
    None, "--at", metavar="TIME", help="When it was said, as 2026-01-31T12:00 or `ts`; default: now there."
)


class Verdict(StrEnum):
    """What a person says of an alert."""

    fault = "fault"
    no_fault = "no_fault"
    fixed = "fixed"
    normal_since = "normal_since"
    unknown = "unknown"


@app.callback()
def feedback() -> None:
    """Labels and what they say: bring in, answer, take back, see their effect, queue, recall."""


@app.command("import")
def import_labels(
    file: Path = typer.Argument(..., help="Labels: CSV, Parquet or JSON lines."),
    config: Path = CONFIG,
    folder: Path | None = DIR,
    mapping: Path | None = typer.Option(None, "--mapping", help="How another system writes them: a TOML file."),
    partial: bool = typer.Option(False, "--partial", help="Take the good rows, and leave out those refused."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done, and write nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Take labels from a file: what technicians found out, a row a finding."""
    import msgspec

    from anomaly.feedback.foreign import Translation, load_translation
    from anomaly.feedback.importing import Take, bring_in
    from anomaly.service.answers import known_vehicles

    fleet, run = _place(config, folder)
    translation = load_translation(mapping) if mapping else Translation()
    result = bring_in(file, fleet, run, Take(translation, known_vehicles(run), partial, dry_run))
    for problem in result.refused:
        print(f"{file}: {problem}", file=sys.stderr)
    if as_json:
        print(msgspec.json.encode(result).decode())
        return
    verb = "would be added" if dry_run else "added"
    print(f"{result.added} labels {verb}, {result.known} known already, {len(result.refused)} refused")


@app.command()
def answer(
    alert: str = typer.Argument(..., help="The alert's id, or how it alone begins."),
    verdict: Verdict = typer.Argument(..., help="What came of it."),
    config: Path = CONFIG,
    folder: Path | None = DIR,
    code: str | None = typer.Option(None, "--code", help="What failed, such as P0128."),
    note: str | None = typer.Option(None, "--note", help="In your own words."),
    source: str = typer.Option("answer", "--source", help="Who says it; one's later answer replaces the earlier one."),
    at: str | None = AT,
    bootstrap_server: str | None = SERVER,
    log: Path | None = LOG,
    command_config: Path | None = PROPERTIES,
    as_json: bool = AS_JSON,
) -> None:
    """Answer an alert: the label is kept in the run's folder, and told to the scorers of the log that is named."""
    from anomaly.service import answers

    fleet, run = _place(config, folder)
    said = answers.Said(verdict.value, source, code, note, _ticks(at, fleet))
    label = answers.answer(run, fleet, alert, said)
    told = _tell(fleet, (bootstrap_server, log, command_config), label)
    _show_label(label, told, as_json)


@app.command()
def undo(
    label: str = typer.Argument(..., help="A label's id, or the alert that it answers."),
    config: Path = CONFIG,
    folder: Path | None = DIR,
    at: str | None = AT,
    bootstrap_server: str | None = SERVER,
    log: Path | None = LOG,
    command_config: Path | None = PROPERTIES,
    as_json: bool = AS_JSON,
) -> None:
    """Take a label back, and what it did to the vehicle's baseline; the history stays."""
    from anomaly.service import answers

    fleet, run = _place(config, folder)
    corrected, event = answers.undo(run, fleet, label, _ticks(at, fleet))
    told = _tell(fleet, (bootstrap_server, log, command_config), corrected, event)
    _show_label(corrected, told, as_json)


@app.command()
def effect(
    label: str = typer.Argument(..., help="A label's id, or the alert that it answers."),
    config: Path = CONFIG,
    folder: Path | None = DIR,
    as_json: bool = AS_JSON,
) -> None:
    """What a label changed: thresholds before and after, and which of the last alerts it would have removed."""
    import msgspec

    from anomaly.service.effect import effect as effect_of

    fleet, run = _place(config, folder)
    found = effect_of(run, fleet, label)
    print(msgspec.json.encode(found).decode() if as_json else "\n".join(_effect_lines(found)))


@app.command("queue")
def show_queue(
    config: Path = CONFIG,
    folder: Path | None = DIR,
    limit: int = typer.Option(20, "--limit", min=1, help="So many of the dearest."),
    as_json: bool = AS_JSON,
) -> None:
    """What is worth a technician's next hour, and why: alerts by expected cost, audit, disagreements."""
    import msgspec

    from anomaly.service.queue import queue

    fleet, run = _place(config, folder)
    tasks = queue(run, fleet)
    if as_json:
        print(msgspec.json.encode(tasks[:limit]).decode())
        return
    for task in tasks[:limit]:
        print(_task_line(task, fleet))
    rest = len(tasks) - limit
    print(f"and {rest} more (--limit)" if rest > 0 else f"{len(tasks)} to look at", file=sys.stderr)


@app.command()
def recall(config: Path = CONFIG, folder: Path | None = DIR, as_json: bool = AS_JSON) -> None:
    """How many of all faults were found, estimated from the audit sample, with its interval."""
    import msgspec

    from anomaly.service.audited import recall as recall_of

    fleet, run = _place(config, folder)
    found = recall_of(run, fleet)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    print(f"{found.detected} faults found by an alarm; the audit of {found.share:.2%} met {found.met} without one")
    print(f"faults without an alarm, estimated: {_interval(found.false_negatives, '.0f')}")
    print(f"recall, estimated from the audit: {_interval(found.recall, '.2f')}")
    naive = _interval(found.naive_recall, ".2f")
    print(f"recall of known faults alone: {naive}, biased: faults are known where somebody looked")


@app.command()
def monitor(
    config: Path = CONFIG,
    folder: Path | None = DIR,
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    calibrate: str | None = typer.Option(
        None, "--calibrate", metavar="FROM..TO", help="Learn the limits from this quiet time, for the champion."
    ),
    at: str | None = typer.Option(None, "--at", metavar="TIME", help="Look at the window that ends there."),
    as_json: bool = AS_JSON,
) -> None:
    """Watch a run without labels: drift of signals, features and scores, alerts, burn-in; exit 1 beyond a limit."""
    import msgspec

    from anomaly.registry.store import Registry
    from anomaly.service import monitor as watch

    fleet, run = _place(config, folder)
    watched = watch.Watched(run, fleet, Registry(models))
    if calibrate is not None:
        first, _, last = calibrate.partition("..")
        known = watch.learn(watched, _ticks(first, fleet) or 0, _ticks(last, fleet) or 0)
        said = f"{known.model}: limits of {len(known.shapes)} distributions from {known.windows} quiet windows"
        print(msgspec.json.encode(known).decode() if as_json else said)
        return
    found = watch.monitor(watched, _ticks(at, fleet))
    beyond = [one for one in found if one.drifted]
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        for one in beyond or found[:3]:
            print(f"{one.name}: {one.value:.4g}, limit {one.limit:.4g}{' PASSED' if one.drifted else ''}")
        print(f"{len(beyond)} of {len(found)} figures beyond their limit")
    if beyond:
        raise GateError(f"{beyond[0].name} is beyond its limit, and {len(beyond) - 1} more")


@app.command()
def parity(
    config: Path = CONFIG,
    folder: Path | None = DIR,
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    group: str | None = typer.Option(None, "--group", help="The group that scored; default the fleet's name."),
    data: Path | None = typer.Option(None, "--data", help="A history to compute from, instead of the run's archive."),
    as_json: bool = AS_JSON,
) -> None:
    """Compute the features of all logged decisions again and compare each bit; exit 1 if a row differs."""
    import msgspec

    from anomaly.registry.store import Registry
    from anomaly.service.parity import parity as compare
    from anomaly.service.replay import Run

    fleet, run = _place(config, folder)
    found = compare(fleet, Run(run, group or fleet.name, Registry(models)), data)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        print(f"{found.compared:,} rows of features compared, {found.differing:,} differ")
        for name, count in found.signals.items():
            print(f"  {name}: in {count:,} rows")
        for row in found.first:
            print(f"  {row.vehicle} at {row.ts}: {', '.join(row.signals) or 'not there at all'}")
    if found.differing:
        raise GateError(f"the features of {found.differing} of {found.compared} rows are others than live")


def _place(config: Path, folder: Path | None) -> tuple[Fleet, Path]:
    fleet = fleets.load(config)
    return fleet, folder or Path("run") / fleet.name


def _ticks(text: str | None, fleet: Fleet) -> int | None:
    from anomaly.cli.times import parse_time

    if text is None:
        return None
    plain = text.removeprefix("-").isdecimal()
    return int(text) if plain else parse_time(text, fleet.fleet.time_unit, "--at", "number of ticks")


def _tell(
    fleet: Fleet, where: tuple[str | None, Path | None, Path | None], label: Label, event: VehicleEvent | None = None
) -> bool:
    """Whether a log was named, and was told."""
    from anomaly.service.answers import tell
    from anomaly.stream.open import open_log

    if not any(where):
        return False
    with closing(open_log(*where)) as stream:
        tell(stream, fleet, label, event)
    return True


def _show_label(label: Label, told: bool, as_json: bool) -> None:
    import msgspec

    from anomaly.feedback.labels import label_id

    if as_json:
        print(msgspec.json.encode({"label": label_id(label), **msgspec.to_builtins(label), "told": told}).decode())
        return
    print(f"label {label_id(label)}: {label.vehicle} {label.verdict}, said by {label.source} of alert {label.alert}")
    if not told:
        print(
            "kept in the run's labels; scorers act on it when --log or --bootstrap-server names theirs", file=sys.stderr
        )


BASELINES = {
    "starts_again": "starts again",
    "moved": "moved to where it was in alarm",
    "stays": "stays as it is",
    "waits": "moves once a scorer hears of it, if the alarm lasts then",
}
"""What becomes of a vehicle's baseline, in words."""


def _effect_lines(found: Effect) -> Iterator[str]:
    yield f"label {found.label}: {found.vehicle} {found.verdict}, said by {found.source}"
    yield f"  its baseline {BASELINES[found.baseline]}"
    yield f"  its own threshold: {_nats(found.own_before)} before, {_nats(found.own_after)} now"
    moved = f"{found.fleet_before:.3g} -> {found.fleet_after:.3g} nats"
    yield f"  the threshold that keeps the budget by what is labelled: {moved}"
    confirmed = "none of them confirmed" if not found.confirmed else f"{found.confirmed} of them confirmed"
    yield f"  it would have removed {found.removed} of the last {found.last} alerts, {confirmed}"


def _nats(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g} nats"


def _task_line(task: Task, fleet: Fleet) -> str:
    from anomaly.alerts.text import when

    since = "" if task.since is None else f" since {when(task.since, fleet.fleet.time_unit)}"
    what = f"alert {task.alert} ({task.kind}, level {task.level:.2f})" if task.alert else task.reason
    return f"{task.expected_cost:>8.1f}  {task.vehicle}  {what}{since}; {task.why}"


def _interval(found: Interval, form: str) -> str:
    if found.value is None:
        return "unknown"
    low, high = (format(end, form) if end is not None else "any" for end in (found.low, found.high))
    return f"{found.value:{form}} (95 % interval {low} to {high})"
