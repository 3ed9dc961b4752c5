"""What suites say as one HTML file: tables, the plot of lead against budget, and timelines; no network, no script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from training.suites.nab_score import NabRow
from training.suites.tally import Estimate
from training.suites.verdict import Row, Timeline, Verdict

WIDTH, HEIGHT, LEFT, BOTTOM = 620, 260, 46, 34
COLOURS = ("#0b6e4f", "#c1440e", "#2b5c8a", "#8a6d1d", "#7a3e8e", "#4d4d4d", "#b02a5b", "#2f8f9d")
LOUD = 3.0
"""A level this far above the line is drawn at the top of a timeline."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2327; --dim: #667077; --line: #d5dade; --paper: #fff; --soft: #f3f5f6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ea; --dim: #98a3aa; --line: #3a4349; --paper: #14181b; --soft: #1e2428; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 1180px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid var(--line);
  padding-top: 1rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--dim); } th:first-child, td:first-child { text-align: left; }
tr.own td { font-weight: 600; background: var(--soft); } .dim { color: var(--dim); font-size: .88em; }
.met { color: #0b8a5f; } .failed { color: #c1440e; font-weight: 600; }
.lines { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .88em; color: var(--dim); } svg { max-width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--dim); }
"""


def html(verdicts: Sequence[Verdict]) -> str:
    """One self-contained page for all verdicts."""
    title = escape(", ".join(dict.fromkeys(verdict.suite for verdict in verdicts)))
    body = "".join(part for verdict in verdicts for part in _verdict(verdict))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>How well faults are found: {title}</h1>"
        '<p class="dim">Medians over splits; brackets are 95 % bootstrap intervals over vehicles. Lead counts from the '
        "first alarm after the healthy part, lead (running) from the start of the episode that still runs at the end; "
        "a fault that was not detected counts as 0. Thresholds were chosen on other vehicles.</p>"
        f"{body}</body></html>"
    )


def _verdict(verdict: Verdict) -> Iterator[str]:
    yield f"<h2>{escape(verdict.suite)}</h2><p>{escape(verdict.about)}</p>"
    yield "".join(_claims(verdict))
    if verdict.benchmark:
        yield f"<h3>Score of the benchmark: 0 without any alarm, 100 perfect</h3>{_benchmark(verdict.benchmark)}"
    else:
        yield from _tables(verdict)
    if verdict.timelines:
        figures = "".join(_timeline(one, verdict.unit) for one in verdict.timelines)
        yield f'<h3>Vehicles to look at</h3><div class="lines">{figures}</div>'
    yield "".join(f'<p class="dim">Note: {escape(note)}.</p>' for note in verdict.notes)


def _tables(verdict: Verdict) -> Iterator[str]:
    yield f"<h3>At {verdict.budget:g} false alarms per 1,000 healthy {escape(verdict.unit)}</h3>"
    yield _main_table(verdict)
    if len({row.budget for row in verdict.rows}) > 1:
        yield f"<h3>Lead against false alarms</h3>{_plot(verdict)}"
    if any(row.obtained is not None for row in verdict.rows):
        yield f"<h3>Transfer gap: false alarms allowed, and what became of it</h3>{_transfer(verdict)}"
    if verdict.differences:
        yield f"<h3>Lead of the product above each row, paired by split</h3>{_differences(verdict)}"
    if verdict.slices:
        yield f"<h3>The product, slice by slice</h3>{_slices(verdict)}"


def _claims(verdict: Verdict) -> Iterator[str]:
    if verdict.claims:
        yield "<ul>"
        for claim in verdict.claims:
            kind, word = ("met", "holds") if claim.met else ("failed", "fails")
            yield (
                f'<li><span class="{kind}">{word}</span>: {escape(claim.claim)} {claim.value:.4g} '
                f'<span class="dim">({escape(claim.wanted)})</span></li>'
            )
        yield "</ul>"


def _table(head: Iterable[str], rows: Iterable[tuple[bool, Iterable[str]]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join(
        f'<tr class="{"own" if own else ""}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for own, cells in rows
    )
    return f'<div class="scroll"><table><tr>{titles}</tr>{lines}</table></div>'


def _main_table(verdict: Verdict) -> str:
    head = ("row", "false alarms", "vehicles alarmed", "time in alarm", "detected", "lead", "lead (running)", "cost")
    base = "" if verdict.base_rate is None else f" (random {verdict.base_rate:.2f})"
    rows = [row for row in verdict.rows if row.budget == verdict.budget]
    return _table([*head, f"AUC-PR{base}"], ((row.row == "product", _cells(row)) for row in rows))


def _cells(row: Row) -> Iterator[str]:
    yield escape(row.row)
    yield _figure(row.false_alarms, 2)
    yield f"{100 * row.vehicles_alarmed.value:.0f} %"
    yield f"{100 * row.time_in_alarm.value:.1f} %"
    yield f"{100 * row.detected.value:.0f} %"
    yield _figure(row.lead, 1)
    yield _figure(row.lead_running, 1)
    yield f"{row.cost.value:,.0f}"
    yield "" if row.auc_pr is None else f"{row.auc_pr:.3f}"


def _benchmark(rows: Sequence[NabRow]) -> str:
    head = ("row", "standard", "low false positives", "low false negatives", "VUS-PR", "series")
    lines = (
        (
            row.name == "product",
            (
                escape(row.name),
                f'{row.standard:.1f} <span class="dim">[{row.interval[0]:.1f}, {row.interval[1]:.1f}]</span>',
                f"{row.low_false_positives:.1f}",
                f"{row.low_false_negatives:.1f}",
                f"{row.vus_pr:.3f}",
                escape(row.note) or str(row.series),
            ),
        )
        for row in rows
    )
    return _table(head, lines)


def _transfer(verdict: Verdict) -> str:
    rows = (
        (
            row.row == "product",
            (
                escape(row.row),
                f"{row.budget:g}",
                f"{row.on_validation:.2f}",
                f"{row.false_alarms.value:.2f}",
                f"{row.obtained:.2f}",
            ),
        )
        for row in verdict.rows
        if row.on_validation is not None and row.obtained is not None
    )
    return _table(("row", "budget", "on validation", "on test", "times the budget"), rows)


def _differences(verdict: Verdict) -> str:
    rows = (
        (
            False,
            (
                escape(one.row),
                _figure(one.lead, 1),
                f"{one.won} of {one.splits}",
                _figure(one.lead_running, 1),
                f"{one.won_running} of {one.splits}",
            ),
        )
        for one in verdict.differences
    )
    return _table(("row", "lead", "splits won", "lead (running)", "splits won"), rows)


def _slices(verdict: Verdict) -> str:
    rows = (
        (
            False,
            (
                escape(part.name),
                f"{part.days:,.0f}",
                "" if part.false_alarms is None else f"{part.false_alarms:.2f}",
                str(part.faults),
                "" if part.detected is None else f"{100 * part.detected:.0f} %",
                "" if part.lead is None else f"{part.lead:.1f}",
            ),
        )
        for part in verdict.slices
    )
    return _table(("slice", "healthy days", "false alarms", "faults", "detected", "lead"), rows)


def _figure(estimate: Estimate, digits: int) -> str:
    value, low, high = (f"{number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return value if low == high else f'{value} <span class="dim">[{low}, {high}]</span>'


def _plot(verdict: Verdict) -> str:
    """Lead over the false alarms that came of each budget: further up and to the left is better."""
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for row in verdict.rows:
        if row.lead.value == row.lead.value and row.row != "always alarm":
            lines.setdefault(row.row, []).append((row.false_alarms.value, row.lead.value, row.budget))
    lines = {name: points for name, points in lines.items() if len(points) > 1}
    if not lines:
        return ""
    most = max(x for points in lines.values() for x, _, _ in points) or 1.0
    top = max(y for points in lines.values() for _, y, _ in points) or 1.0
    drawn = "".join(_curve(points, place, (most, top)) for place, points in enumerate(lines.values()))
    names = "".join(
        f'<tspan x="{WIDTH + 12}" dy="15" style="fill:{COLOURS[place % len(COLOURS)]}">{escape(name)}</tspan>'
        for place, name in enumerate(lines)
    )
    size = max(HEIGHT, 15 * len(lines) + 20)
    return (
        f'<svg viewBox="0 0 {WIDTH + 240} {size}" width="{WIDTH + 240}" role="img" aria-label="lead against false '
        f'alarms">{_axes(most, top, verdict.unit)}{drawn}<text x="{WIDTH + 12}" y="6">{names}</text></svg>'
    )


def _axes(most: float, top: float, unit: str) -> str:
    base = HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT} 8V{base}H{WIDTH}" fill="none" stroke="currentColor" stroke-opacity=".4"/>']
    for step in range(5):
        x, y = LEFT + step / 4 * (WIDTH - LEFT), base - step / 4 * (base - 8)
        parts.append(f'<text x="{x:.0f}" y="{base + 15}" text-anchor="middle">{most * step / 4:.1f}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{top * step / 4:.0f}</text>')
    middle = (LEFT + WIDTH) / 2
    label = f"false alarms per 1,000 healthy {escape(unit)} (points: budgets); upwards: lead"
    return "".join(parts) + f'<text x="{middle:.0f}" y="{HEIGHT - 2}" text-anchor="middle">{label}</text>'


def _curve(points: list[tuple[float, float, float]], place: int, limits: tuple[float, float]) -> str:
    base, colour = HEIGHT - BOTTOM, COLOURS[place % len(COLOURS)]
    wide = 2.5 if place == 0 else 1.2
    placed = [
        (LEFT + x / limits[0] * (WIDTH - LEFT), base - y / limits[1] * (base - 8), budget)
        for x, y, budget in sorted(points)
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in placed)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{wide + 1}" fill="{colour}"><title>budget {budget:g}</title></circle>'
        for x, y, budget in placed
    )
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{wide}"/>{dots}'


def _timeline(one: Timeline, unit: str) -> str:
    """Level over time: the threshold dashed, fault windows shaded, alarms red where they are false, else green."""
    width, height = 340, 96
    last = max(one.ts[-1], 1e-9)

    def across(when: float) -> float:
        return max(0.0, min(1.0, when / last)) * width

    def up(level: float) -> float:
        return height - min(level, LOUD) / LOUD * (height - 4)

    shades = "".join(
        f'<rect x="{across(start):.1f}" y="0" width="{max(across(end) - across(start), 1):.1f}" height="{height}" '
        'fill="#c1440e" fill-opacity=".14"/>'
        for start, end in one.faults
    )
    healthy = "".join(
        f'<rect x="{across(ts):.1f}" y="{height}" width="{width / len(one.ts) + 0.5:.2f}" height="4" fill="#0b8a5f"/>'
        for ts, well in zip(one.ts, one.healthy, strict=True)
        if well
    )
    alarms = "".join(
        f'<circle cx="{across(ts):.1f}" cy="{up(level):.1f}" r="2.2" fill="{"#c1440e" if well else "#0b6e4f"}"/>'
        for ts, level, alarm, well in zip(one.ts, one.level, one.alarm, one.healthy, strict=True)
        if alarm
    )
    path = "M" + "L".join(f"{across(ts):.1f} {up(level):.1f}" for ts, level in zip(one.ts, one.level, strict=True))
    line = f'<path d="M0 {up(1.0):.1f}H{width}" stroke="currentColor" stroke-dasharray="4 3" stroke-opacity=".5"/>'
    words = {"missed": "a fault missed", "false": "alarmed for nothing", "found": "a fault found"}
    word = words[one.verdict]
    return (
        f'<figure><svg viewBox="0 0 {width} {height + 16}" width="{width}" role="img" aria-label="{word}">'
        f'{shades}{healthy}{line}<path d="{path}" fill="none" stroke="currentColor" stroke-width="1"/>{alarms}'
        f'<text x="{width}" y="{height + 15}" text-anchor="end">{last:.0f} {escape(unit)}</text></svg>'
        f"<figcaption>{escape(one.vehicle)}: {word}</figcaption></figure>"
    )
