"""The page of a year: what each policy cost, day by day, as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

import numpy as np

from training.loop.comparison import Against, Comparison
from training.loop.policies import POLICIES
from training.loop.world import WorldFile
from training.loop.year import Year

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 920, 360, 70, 40, 24
COLOURS = ("#555555", "#c0392b", "#1f6fb4", "#d98200", "#7b4fa3", "#2e8b57", "#111111")
STYLE = """body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 960px;
color: #222; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .9rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr { border-bottom: 1px solid #ddd } svg { max-width: 100% }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #ddd } tr { border-color: #444 } }"""


def page(file: WorldFile, found: Comparison) -> str:
    """The whole page."""
    return "\n".join(
        [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>A year of the loop</title>",
            f"<style>{STYLE}</style></head><body><h1>A year of the loop</h1>",
            f"<p>{file.vehicles + file.new_model.vehicles} vehicles, {file.days} days, seeds "
            f"{', '.join(map(str, found.seeds))}; cost {file.cost.false_alarm:g} a false alarm, {file.cost.missed:g} "
            "a failure that no alarm came before. Nobody acted but technicians, who look at what alarms and at what "
            "the audit picks.</p>",
            _plot(file, found.years),
            _table(found),
            "<h2>The loop against the others</h2>",
            _against_table([*found.against, _named(found.against_steady, "frozen, without the step")]),
            "<h2>What the loop did by itself</h2>",
            _done(found),
            "</body></html>",
        ]
    )


def _plot(file: WorldFile, years: Sequence[Year]) -> str:
    curves = {
        policy.name: np.median([np.cumsum(y.cost_by_day) for y in years if y.policy == policy.name], axis=0)
        for policy in POLICIES
    }
    most = max(float(curve[-1]) for curve in curves.values()) or 1.0
    parts = [f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='Cost over the year, by policy'>"]
    parts += [*_marks(file), *_grid(most)]
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=True):
        points = " ".join(f"{_x(day, file):.1f},{_y(cost, most):.1f}" for day, cost in enumerate(curve.tolist()))
        wide = 3 if name == "loop" else 1.5
        parts.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='{wide}'/>")
    for place, (colour, name) in enumerate(zip(COLOURS, curves, strict=True)):
        parts.append(
            f"<text x='{LEFT + 10}' y='{TOP + 18 + 17 * place}' fill='{colour}' font-size='13'>"
            f"{html.escape(name)}</text>"
        )
    return "\n".join([*parts, "</svg>"])


def _marks(file: WorldFile) -> Iterator[str]:
    """What happens in the world: outages of labels as bands, the step and the new model as lines."""
    for first, last in file.labels.outages:
        x, width = _x(first, file), _x(last, file) - _x(first, file)
        yield f"<rect x='{x:.1f}' y='{TOP}' width='{width:.1f}' height='{HEIGHT - TOP - BOTTOM}' fill='#8884'/>"
        yield f"<text x='{x + 3:.1f}' y='{TOP - 6}' font-size='11' fill='#888'>no labels</text>"
    for day, name in ((file.step.day, "firmware"), (file.new_model.day, "new model")):
        x = _x(day, file)
        ends = f"x1='{x:.1f}' x2='{x:.1f}' y1='{TOP}' y2='{HEIGHT - BOTTOM}'"
        yield f"<line {ends} stroke='#888' stroke-dasharray='4 3'/>"
        yield f"<text x='{x + 3:.1f}' y='{TOP - 6}' font-size='11' fill='#888'>{name}</text>"


def _grid(most: float) -> Iterator[str]:
    for part in range(5):
        cost = most * part / 4
        y = _y(cost, most)
        yield f"<line x1='{LEFT}' x2='{WIDTH - 10}' y1='{y:.1f}' y2='{y:.1f}' stroke='#8883'/>"
        yield f"<text x='{LEFT - 6}' y='{y + 4:.1f}' text-anchor='end' font-size='12' fill='#888'>{cost:,.0f}</text>"
    middle = (LEFT + WIDTH) / 2
    yield f"<text x='{middle}' y='{HEIGHT - 8}' font-size='12' fill='#888'>days; median of the seeds</text>"


def _x(day: float, file: WorldFile) -> float:
    return LEFT + (WIDTH - LEFT - 10) * day / file.days


def _y(cost: float, most: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * cost / most


def _table(found: Comparison) -> str:
    rows = [
        "<tr><th>policy</th><th>cost</th><th>false alarms</th><th>missed</th><th>trained</th><th>promoted</th></tr>"
    ]
    for title, years in (("", found.years), (" (no step)", found.steady)):
        for name in dict.fromkeys(year.policy for year in years):
            own = [year for year in years if year.policy == name]
            middle = [float(np.median([getattr(year, field) for year in own])) for field in
                      ("cost", "false_alarms", "missed", "failures", "retrained", "promoted")]  # fmt: skip
            cost, false, missed, failures, trained, promoted = middle
            rows.append(
                f"<tr><td>{html.escape(name + title)}</td><td>{cost:,.0f}</td><td>{false:.0f}</td>"
                f"<td>{missed:.0f} of {failures:.0f}</td><td>{trained:.0f}</td><td>{promoted:.0f}</td></tr>"
            )
    return f"<table>{''.join(rows)}</table><p>Medians of the seeds.</p>"


def _named(one: Against, name: str) -> Against:
    return Against(policy=name, median=one.median, low=one.low, high=one.high)


def _against_table(rows: Sequence[Against]) -> str:
    body = "".join(
        f"<tr><td>{html.escape(one.policy)}</td><td>{100 * one.median:+.1f} %</td>"
        f"<td>{100 * one.low:+.1f} to {100 * one.high:+.1f} %</td></tr>"
        for one in rows
    )
    return f"<table><tr><th>cost of the loop beside</th><th>median</th><th>95 % interval</th></tr>{body}</table>"


def _done(found: Comparison) -> str:
    year = next(year for year in found.years if year.policy == "loop")
    rows = "".join(
        f"<tr><td>{one.day}</td><td style='text-align:left'>{one.act.replace('_', ' ')}</td>"
        f"<td style='text-align:left'>{html.escape(one.reason)}</td></tr>"
        for one in year.done
    )
    return f"<p>Seed {year.seed}.</p><table><tr><th>day</th><th>act</th><th>why</th></tr>{rows}</table>"
