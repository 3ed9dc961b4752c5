"""`anomaly topics`: make a fleet's topics, and see which are there."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import typer

from anomaly import fleet as fleets
from anomaly.errors import PeerError
from anomaly.stream.open import open_log
from anomaly.stream.ports import Log
from anomaly.stream.topics import Layout, create_topics, layouts

app = typer.Typer(help="Create or check a fleet's topics.", no_args_is_help=True, rich_markup_mode=None)

CONFIG = typer.Option(Path("fleet.toml"), "--config", help="The fleet file.")
SERVER = typer.Option(None, "--bootstrap-server", help="HOST:PORT of a Kafka broker.")
LOG = typer.Option(None, "--log", help="An embedded log's file, instead of Kafka.")
PROPERTIES = typer.Option(None, "--command-config", help="A client.properties for Kafka.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command()
def create(
    config: Path = CONFIG,
    bootstrap_server: str | None = SERVER,
    log: Path | None = LOG,
    command_config: Path | None = PROPERTIES,
    as_json: bool = AS_JSON,
) -> None:
    """Create the topics that are missing; those that are there stay as they are."""
    fleet = fleets.load(config)
    with closing(open_log(bootstrap_server, log, command_config)) as opened:
        made = create_topics(opened, fleet)
        rows = [_row(opened, layout) | {"created": layout.name in made} for layout in layouts(fleet)]
    _show(rows, as_json)


@app.command()
def check(
    config: Path = CONFIG,
    bootstrap_server: str | None = SERVER,
    log: Path | None = LOG,
    command_config: Path | None = PROPERTIES,
    as_json: bool = AS_JSON,
) -> None:
    """Say which topics are there; exit 4 if one is missing."""
    fleet = fleets.load(config)
    if log is not None and not log.exists():
        raise PeerError(f"there is no log {log}; `anomaly topics create --log {log}` makes it")
    with closing(open_log(bootstrap_server, log, command_config)) as opened:
        rows = [_row(opened, layout) for layout in layouts(fleet)]
    _show(rows, as_json)
    missing = [row["topic"] for row in rows if row["partitions"] is None]
    if missing:
        raise PeerError(f"missing: {', '.join(missing)}; `anomaly topics create` makes them")


def _row(log: Log, layout: Layout) -> dict[str, Any]:
    """A topic as it is, and what the fleet file asks for; `partitions` is None where it is missing."""
    found = log.topic(layout.name)
    return {
        "topic": layout.name,
        "partitions": found.partitions if found else None,
        "messages": sum(found.end) - sum(found.start) if found else 0,
        "retention_ms": log.retention_ms(layout.name) if found else None,
        "asked": {
            "partitions": layout.partitions,
            "retention_ms": layout.retention_ms,
            "compacted": layout.compacted,
        },
    }


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['topic']}: {_state(row)}")


def _state(row: dict[str, Any]) -> str:
    if row["partitions"] is None:
        return "missing"
    asked = row["asked"]
    count = f"{row['partitions']} partition{'s' if row['partitions'] > 1 else ''}"
    if row["partitions"] != asked["partitions"]:
        count += f" (the fleet file asks for {asked['partitions']})"
    if row.get("created"):
        return f"created, {count}, {_kept(asked)}"
    wanted = -1 if asked["compacted"] else asked["retention_ms"]
    other = "" if row["retention_ms"] == wanted else f" (the fleet file says {_days(wanted)})"
    return f"{count}, {row['messages']:,} messages, kept {_days(row['retention_ms'])}{other}"


def _kept(asked: dict[str, Any]) -> str:
    if asked["compacted"]:
        return "the last message of each key kept"
    return f"kept {_days(asked['retention_ms'])}"


def _days(retention_ms: int) -> str:
    return "for ever" if retention_ms < 0 else f"for {retention_ms / 86_400_000:g} days"
