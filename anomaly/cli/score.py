"""`anomaly score`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer


class From(StrEnum):
    """Where a partition without a stored offset begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


class LogLevel(StrEnum):
    """The least important log lines that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


SEND_S = 4.0
"""Alerts that cannot be sent in this time stay in the outbox and are tried again; so a drain ends within 10 s."""


def score(
    config: Path = typer.Option(..., "--config", help="The fleet file."),
    bootstrap_server: str | None = typer.Option(None, "--bootstrap-server", help="Kafka, HOST:PORT."),
    log: Path | None = typer.Option(None, "--log", help="An embedded log instead of Kafka."),
    folder: Path | None = typer.Option(None, "--dir", help="Where the run is written; default run/<fleet name>."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    group: str | None = typer.Option(None, "--group", help="The consumer group; default the fleet's name."),
    first: From = typer.Option(From.EARLIEST, "--from", help="Where a new group starts."),
    fresh_state: bool = typer.Option(False, "--fresh-state", help="Give state and offsets up and start over."),
    command_config: Path | None = typer.Option(None, "--command-config", help="A Kafka client.properties."),
    stop_at_end: bool = typer.Option(False, "--stop-at-end", help="End when everything that was there is scored."),
    metrics_port: int | None = typer.Option(
        None, "--metrics-port", min=0, max=65535, help="On 127.0.0.1; 0: none; default 9464."
    ),
    profile: bool = typer.Option(False, "--profile", help="Say at the end where the time went, stage by stage."),
    log_level: LogLevel = typer.Option(LogLevel.INFO, "--log-level", help="Least important lines to show."),
) -> None:
    """Score the live stream: decisions, alerts and dead letters, until SIGTERM or Ctrl-C."""
    from anomaly import fleet as fleets
    from anomaly.service import logs
    from anomaly.service.run import Process, run
    from anomaly.service.scorer import Options
    from anomaly.stream.client_properties import read_client_properties
    from anomaly.stream.open import open_log

    _leave_pandas_out()
    logs.configure(log_level.value)
    fleet = fleets.load(config)
    client = read_client_properties(command_config) if command_config else {}
    name = group or client.get("group.id") or fleet.name
    options = Options(folder or Path("run") / fleet.name, name, first.value, fresh_state, stop_at_end)
    opened = open_log(bootstrap_server, log, command_config, SEND_S)
    try:
        code = run(fleet, opened, Process(models, options, metrics_port, profile))
    finally:
        opened.close()
    if code:
        raise typer.Exit(code)


def _leave_pandas_out() -> None:
    """Keep pyarrow from importing pandas at its first array: 0.4 s and 50 MB that a scorer has no use for.

    pyarrow looks for pandas once in a process; here it finds one that is too old. Only for a process that does
    nothing but score.
    """
    import sys
    import types
    import warnings

    if "pandas" in sys.modules:
        return
    old = types.ModuleType("pandas")
    old.__dict__["__version__"] = "0"
    sys.modules["pandas"] = old
    try:
        import pyarrow as pa

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pa.array([0])
    finally:
        del sys.modules["pandas"]
