"""`anomaly evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly.errors import GateError

if TYPE_CHECKING:
    from rich.table import Table

    from training.suites.tally import Estimate
    from training.suites.verdict import Verdict


def evaluate(
    suite: str = typer.Argument(
        ..., help="One of turbofan, turbofan-drift, battery, nab, fleet, novel, budget; or a fleet file."
    ),
    data: Path | None = typer.Option(None, "--data", help="The folder of public data sets, or the fleet's history."),
    events: Path | None = typer.Option(None, "--events", help="Vehicle events, for a fleet file."),
    labels: Path | None = typer.Option(None, "--labels", help="Labels, for a fleet file."),
    fleets: int = typer.Option(20, "--fleets", min=1, help="Simulated fleets, for budget."),
    vehicles: int = typer.Option(500, "--vehicles", min=20, help="Vehicles of each that are judged, for budget."),
    cost_false_alarm: float = typer.Option(10.0, "--cost-false-alarm", min=0.0, help="Cost of a false-alarm episode."),
    cost_missed: float = typer.Option(500.0, "--cost-missed", min=0.0, help="Cost of a fault that was not found."),
    report: Path | None = typer.Option(None, "--report", help="Write an HTML report, one file, to look at."),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """Judge detection by one protocol, beside what it has to beat; exit 1 where a claim of the suite does not hold.

    anomaly evaluate turbofan --data FOLDER

    anomaly evaluate fleet.toml --data history.parquet --labels labels.parquet --report report.html
    """
    import msgspec

    from training.report import html
    from training.suites.budget import Size
    from training.suites.choose import Asked, judge
    from training.suites.tally import Costs

    asked = Asked(suite, data, events, labels, Size(fleets, vehicles))
    verdicts = judge(asked, Costs(cost_false_alarm, cost_missed), lambda line: print(line, file=sys.stderr))
    if report:
        report.write_text(html(verdicts), encoding="utf-8")
        print(f"report: {report}", file=sys.stderr)
    if as_json:
        print(msgspec.json.encode(verdicts).decode())
    else:
        _show(verdicts)
    failed = [claim for verdict in verdicts for claim in verdict.claims if not claim.met]
    if failed:
        raise GateError(
            f"{len(failed)} claims do not hold: "
            + "; ".join(f"{claim.claim} is {claim.value:.4g}, wanted {claim.wanted}" for claim in failed)
        )


def _show(verdicts: list[Verdict]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    for verdict in verdicts:
        console.print(f"\n[bold]{verdict.suite}[/bold]: {verdict.about}")
        for table in _tables(verdict):
            console.print(table)
        for claim in verdict.claims:
            word = "[green]holds[/green]" if claim.met else "[red]fails[/red]"
            console.print(f"  {word}  {claim.claim}: {claim.value:.4g} ({claim.wanted})")
        for note in verdict.notes:
            console.print(f"  note: {note}")


def _tables(verdict: Verdict) -> Iterator[Table]:
    if verdict.benchmark:
        yield _benchmark_table(verdict)
        return
    yield _main_table(verdict)
    if len({row.budget for row in verdict.rows}) > 1:
        yield _budget_table(verdict)
    if any(row.obtained is not None for row in verdict.rows):
        yield _transfer_table(verdict)
    if verdict.differences:
        yield _difference_table(verdict)
    if verdict.slices:
        yield _slice_table(verdict)


def _table(title: str, columns: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _benchmark_table(verdict: Verdict) -> Table:
    columns = ("row", "standard", "low false positives", "low false negatives", "VUS-PR", "series")
    table = _table("score of the benchmark: 0 without any alarm, 100 perfect (95 % interval over series)", columns)
    for row in verdict.benchmark:
        low, high = row.interval
        scores = (f"{value:.1f}" for value in (row.low_false_positives, row.low_false_negatives))
        table.add_row(
            row.name, f"{row.standard:.1f} [{low:.1f}, {high:.1f}]", *scores, f"{row.vus_pr:.3f}", f"{row.series}"
        )
    return table


def _main_table(verdict: Verdict) -> Table:
    base = "" if verdict.base_rate is None else f"; AUC-PR of a random score: {verdict.base_rate:.2f}"
    table = _table(
        f"at a budget of {verdict.budget:g} false alarms per 1,000 healthy {verdict.unit} (median over splits, "
        f"95 % interval over vehicles{base})",
        (
            "row",
            "false alarms",
            "vehicles",
            "time in alarm",
            "detected",
            "lead",
            "lead, running",
            "cost",
            "AUC-PR",
        ),
    )
    for row in verdict.rows:
        if row.budget == verdict.budget:
            table.add_row(
                row.row if row.splits == verdict.splits else f"{row.row} ({row.splits} splits)",
                _figure(row.false_alarms, 2),
                f"{100 * row.vehicles_alarmed.value:.0f} %",
                f"{100 * row.time_in_alarm.value:.1f} %",
                f"{100 * row.detected.value:.0f} %",
                _figure(row.lead, 1),
                _figure(row.lead_running, 1),
                f"{row.cost.value:,.0f}",
                "" if row.auc_pr is None else f"{row.auc_pr:.3f}",
            )
    return table


def _budget_table(verdict: Verdict) -> Table:
    budgets = sorted({row.budget for row in verdict.rows})
    columns = [f"{what} at {budget:g}" for budget in budgets for what in ("lead", "false alarms")]
    table = _table("lead against budget", ("row", *columns))
    for name in dict.fromkeys(row.row for row in verdict.rows):
        own = {row.budget: row for row in verdict.rows if row.row == name}
        if len(own) == len(budgets):
            pairs = [(own[budget].lead.value, own[budget].false_alarms.value) for budget in budgets]
            table.add_row(name, *(f"{value:.1f}" for pair in pairs for value in pair))
    return table


def _transfer_table(verdict: Verdict) -> Table:
    table = _table(
        "transfer gap: false alarms allowed, on validation and on test",
        ("row", "budget", "validation", "test", "times"),
    )
    for row in verdict.rows:
        if row.on_validation is not None and row.obtained is not None:
            figures = (f"{value:.2f}" for value in (row.on_validation, row.false_alarms.value, row.obtained))
            table.add_row(row.row, f"{row.budget:g}", *figures)
    return table


def _difference_table(verdict: Verdict) -> Table:
    table = _table("lead of the product above", ("row", "lead", "won", "lead, running", "won"))
    for other in verdict.differences:
        won, running = (f"{count} of {other.splits}" for count in (other.won, other.won_running))
        table.add_row(other.row, _figure(other.lead, 1), won, _figure(other.lead_running, 1), running)
    return table


def _slice_table(verdict: Verdict) -> Table:
    table = _table(
        "the product, slice by slice", ("slice", "healthy days", "false alarms", "faults", "detected", "lead")
    )
    for part in verdict.slices:
        found = "" if part.detected is None else f"{100 * part.detected:.0f} %"
        alarms, lead = ("" if value is None else f"{value:.2f}" for value in (part.false_alarms, part.lead))
        table.add_row(part.name, f"{part.days:,.0f}", alarms, str(part.faults), found, lead)
    return table


def _figure(estimate: Estimate, digits: int) -> str:
    value, low, high = (f"{number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]" if low != high else value
