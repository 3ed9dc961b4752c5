"""`anomaly dlq`: dead letters, the messages that could not be used."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import typer

from anomaly import fleet as fleets
from anomaly.cli.topics import AS_JSON, CONFIG, LOG, PROPERTIES, SERVER
from anomaly.errors import UsageError
from anomaly.stream.open import open_log

app = typer.Typer(help="List and retry dead letters.", no_args_is_help=True, rich_markup_mode=None)
SHOWN_BYTES = 80


@app.command("list")
def list_(
    config: Path = CONFIG,
    bootstrap_server: str | None = SERVER,
    log: Path | None = LOG,
    command_config: Path | None = PROPERTIES,
    as_json: bool = AS_JSON,
) -> None:
    """List the messages that could not be used: where they were, why, and how they begin."""
    import msgspec

    from anomaly.service.dead_letters import read_dead_letters

    fleet = fleets.load(config)
    with closing(open_log(bootstrap_server, log, command_config)) as opened:
        letters = read_dead_letters(fleet, opened)
    if as_json:
        print(msgspec.json.encode(letters).decode())
        return
    for letter in letters:
        begin = letter.payload[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        print(f"{letter.topic}-{letter.partition} offset {letter.offset}: {letter.reason}\n    {begin!r}")
    print(f"{len(letters)} dead letters")


@app.command()
def retry(
    config: Path = CONFIG,
    bootstrap_server: str | None = SERVER,
    log: Path | None = LOG,
    command_config: Path | None = PROPERTIES,
    reason: str | None = typer.Option(None, "--reason", help="Those whose reason contains this."),
    offset: int | None = typer.Option(None, "--offset", min=0, help="Those of this offset."),
    everything: bool = typer.Option(False, "--all", help="All of them."),
) -> None:
    """Send dead letters once more to the partition they came from, after what was wrong with the reader is mended."""
    from anomaly.service.dead_letters import read_dead_letters
    from anomaly.service.dead_letters import retry as send

    if everything == (reason is not None or offset is not None):
        raise UsageError("which ones? Give --reason TEXT or --offset N, or --all")
    fleet = fleets.load(config)
    with closing(open_log(bootstrap_server, log, command_config)) as opened:
        letters = read_dead_letters(fleet, opened)
        count = send(
            opened,
            letters,
            lambda letter: (reason is None or reason in letter.reason) and offset in (None, letter.offset),
        )
    print(f"{count} of {len(letters)} dead letters sent again")
