"""`anomaly feedback`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def feedback() -> None:
    """Bring labels in."""


@app.command("import")
def import_labels(
    file: Path = typer.Argument(..., help="Labels: CSV, Parquet or JSON lines."),
    config: Path = typer.Option(..., "--config", help="The fleet file."),
    folder: Path | None = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>/."),
    partial: bool = typer.Option(False, "--partial", help="Take the good rows, and leave out those refused."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done, and write nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Take labels from a file: what technicians found out, a row a finding."""
    import msgspec

    from anomaly import fleet as fleets
    from anomaly.feedback.importing import bring_in

    fleet = fleets.load(config)
    result = bring_in(file, fleet, folder or Path("run") / fleet.name, partial=partial, dry_run=dry_run)
    for problem in result.refused:
        print(f"{file}: {problem}", file=sys.stderr)
    if as_json:
        print(msgspec.json.encode(result).decode())
        return
    verb = "would be added" if dry_run else "added"
    print(f"{result.added} labels {verb}, {result.known} known already, {len(result.refused)} refused")
