"""`anomaly sql`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from anomaly.cli.topics import AS_JSON, CONFIG


def sql(
    query: str = typer.Argument(..., help='One SELECT, such as "select vehicle, level from alerts order by level".'),
    config: Path = CONFIG,
    folder: Path | None = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    as_json: bool = AS_JSON,
) -> None:
    """Ask a run in SQL: decisions, alerts, outcomes, faults, labels, models, experiments, readings."""
    from anomaly import fleet as fleets
    from anomaly.registry.store import Registry
    from anomaly.service.views import Place, ask

    fleet = fleets.load(config)
    answer = ask(Place(folder or Path("run") / fleet.name, fleet, Registry(models)), query)
    if as_json:
        import json

        print(json.dumps([dict(zip(answer.columns, row, strict=True)) for row in answer.rows], default=str))
        return
    for line in _table(answer.columns, answer.rows):
        print(line)


def _table(columns: list[str], rows: list[tuple[Any, ...]]) -> list[str]:
    """Columns under their names, numbers to the right."""
    cells = [columns, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    right = [
        all(isinstance(row[place], int | float | None) for row in rows) and bool(rows) for place in range(len(columns))
    ]
    return [
        "  ".join(
            cell.rjust(width) if side else cell.ljust(width)
            for cell, width, side in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
