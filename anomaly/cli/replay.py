"""`anomaly replay`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly import fleet as fleets
from anomaly.cli.times import parse_time
from anomaly.cli.topics import AS_JSON, CONFIG, LOG, PROPERTIES, SERVER
from anomaly.errors import GateError
from anomaly.stream.open import open_log

if TYPE_CHECKING:
    from anomaly.fleet import Fleet
    from anomaly.service.compare import Since


def replay(
    config: Path = CONFIG,
    first: str | None = typer.Option(
        None, "--from", metavar="OFFSET|TIME|FILE", help="Compare from there on; a file is scored instead of the log."
    ),
    bootstrap_server: str | None = SERVER,
    log: Path | None = LOG,
    command_config: Path | None = PROPERTIES,
    folder: Path | None = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    group: str | None = typer.Option(None, "--group", help="The group that scored; default the fleet's name."),
    as_json: bool = AS_JSON,
) -> None:
    """Score the past again, from a log or else the archive, and compare each decision with the logged one."""
    import msgspec

    from anomaly.alerts.text import when
    from anomaly.registry.store import Registry
    from anomaly.service import replay as replays

    fleet = fleets.load(config)
    run = replays.Run(folder or Path("run") / fleet.name, group or fleet.name, Registry(models))
    file = Path(first) if first is not None and Path(first).exists() else None
    since = _since(fleet, None if file else first)
    if file is not None:
        result = replays.replay_file(fleet, run, file, since)
    elif bootstrap_server or log or command_config:
        with closing(open_log(bootstrap_server, log, command_config)) as opened:
            result = replays.replay_log(fleet, run, opened, since)
    else:
        result = replays.replay_archive(fleet, run, since)
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        print(f"{result.compared:,} decisions replayed, {result.differing:,} differ from what was logged")
        for row in result.first:
            what = row.column or "there at all"
            at = when(row.ts, fleet.fleet.time_unit)
            print(f"  {row.vehicle} at {at}: {what}: logged {row.logged}, replayed {row.replayed}")
    if result.differing:
        raise GateError(f"{result.differing} of {result.compared} decisions came out differently")


def _since(fleet: Fleet, text: str | None) -> Since:
    """An offset or a time; a number is an offset."""
    from anomaly.service.compare import Since

    if text is None:
        return Since()
    if text.isdigit():
        return Since(offset=int(text))
    return Since(ts=parse_time(text, fleet.fleet.time_unit, "--from", "offset or file"))
