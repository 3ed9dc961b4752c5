"""An experiment's report as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from anomaly.experiments.beside import Beside
from anomaly.experiments.compare import Reading
from anomaly.experiments.report import Report, agreement_line, reading_line, status_line

WIDTH, HEIGHT, LEFT, RIGHT, EDGE = 640, 190, 60, 620, 20
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1c2733}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d5dce3}
.verdict{padding:.8rem 1rem;border-left:5px solid #5b7fa6;background:#eef3f8}.fail{border-color:#b3422f}
.pass{border-color:#2f7d4f}svg{width:100%;height:auto}.note{color:#5a6773;font-size:.9em}
"""


def page(found: Report, when: Callable[[int], str] = str) -> str:
    """The report: verdict, arms, each metric over time with its boundary, slices, and the audit trail.

    `when` puts a time of the fleet in words.
    """
    experiment, evidence = found.experiment, found.evidence
    verdict = found.state.verdict if found.state and found.state.verdict else "inconclusive"
    parts = [
        f"<h1>Experiment {escape(experiment.id)}</h1>",
        f'<p class="verdict {verdict}">{escape(status_line(found))}</p>',
    ]
    if evidence is not None:
        parts.append("<h2>Arms</h2>" + _arms(found))
        if evidence.beside is not None:
            parts.append("<h2>The shadow beside the model that acts</h2>" + _beside(evidence.beside, when))
        for place, reading in enumerate(evidence.readings):
            series = [one.evidence.readings[place] for one in found.looks if one.evidence]
            times = [when(one.at) for one in found.looks]
            parts.append(f"<h2>{escape(reading.metric)}, {reading.role}</h2><p>{escape(reading_line(reading))}</p>")
            parts.append(_evidence_chart(series, times) if reading.log_e is not None else _chart(series, times))
            parts.append(_events_chart(series, times))
        parts.append("<h2>Split of the vehicles</h2>" + _split(found))
        parts.append(_slices(found))
    parts.append("<h2>What was done, and why</h2>" + _trail(found, when))
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{escape(experiment.id)}</title><style>{STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>\n"


def _arms(found: Report) -> str:
    names = ["vehicles", "vehicle-days", "faults", "false alarms per 1,000 days", "alerts a day", "detected", "lead"]
    rows = []
    for arm in found.evidence.arms if found.evidence else ():
        values = [f"{arm.vehicles:,}", f"{arm.vehicle_days:,.0f}", f"{arm.faults:,}"]
        values += [_shown(arm.metrics[name]) for name in ("false_alarms", "alerts", "detected", "lead")]
        rows.append([f"{arm.arm} ({arm.role})", *values])
    return _table(["arm", *names], rows)


def _beside(beside: Beside, when: Callable[[int], str]) -> str:
    figures = [
        [one.name, _shown(one.acting), _shown(one.shadow), _shown(one.difference), _between(one.low, one.high)]
        for one in beside.figures
    ]
    apart = [
        [
            one.vehicle,
            f"{one.agreement:.2%}",
            f"{one.acting_episodes}",
            f"{one.shadow_episodes}",
            f"{one.cost:+g}",
        ]
        for one in beside.apart
    ]
    examples = [
        [
            one.vehicle,
            when(one.ts),
            "acting" if one.alarms == "acting" else "shadow",
            f"{one.level:.2f}",
            f"{one.shadow_level:.2f}",
            ", ".join(one.signals),
            (one.label or "").replace("_", " "),
        ]
        for one in beside.examples
    ]
    note = (
        "<p class=note>Intervals hold 95 % at this look, by resampling vehicles. Nobody inspected what the shadow "
        "alone would have raised: its false alarms are at most these.</p>"
    )
    return "".join(
        [
            f"<p>{escape(agreement_line(beside))}, of {beside.vehicles:,} vehicles.</p>",
            _table(["figure", "acting", "shadow", "difference", "between"], figures),
            note,
            "<h3>Vehicles on which they differ</h3>",
            _table(["vehicle", "agreement", "episodes", "by the shadow", "added cost"], apart),
            "<h3>Decisions to look at</h3>",
            _table(["vehicle", "when", "alarms", "level", "by the shadow", "signals", "found"], examples),
        ]
    )


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3g} and {high:.3g}"


def _split(found: Report) -> str:
    if found.evidence is None:
        return ""
    split = found.evidence.split
    said = "is broken: nothing may be concluded until it is known why" if split.broken else "is as promised"
    return (
        f"<p>{split.control:,} vehicles in the control and {split.treatment:,} in the treatment: the split {said} "
        f"(evidence {max(split.log_e, 0.0):.2f} of {split.log_needed:.2f} needed).</p>"
    )


def _slices(found: Report) -> str:
    slices = found.evidence.slices if found.evidence else []
    if not slices:
        return ""
    note = "<p class=note>Exploratory: among many parts one looks bad by chance. No verdict comes from these.</p>"
    rows = [[one.field, one.word, f"{one.vehicles:,}", _shown(one.harm)] for one in slices]
    return "<h2>Parts of the fleet</h2>" + note + _table(["field", "is", "vehicles", "harm"], rows)


def _trail(found: Report, when: Callable[[int], str]) -> str:
    return _table(["when", "what", "why"], [[when(one.at), one.act, one.reason] for one in found.audit])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(word)}</th>" for word in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _chart(series: Sequence[Reading], times: Sequence[str]) -> str:
    """The interval for the harm over looks, and the limit."""
    known = [(place, one.low, one.high, one.harm) for place, one in enumerate(series)]
    bounded = [(place, low, high, harm) for place, low, high, harm in known if low is not None and high is not None]
    if not bounded:
        return "<p class=note>Too few events for an interval so far.</p>"
    limit = series[-1].limit
    values = [limit, 0.0, *(bound for _, low, high, _ in bounded for bound in (low, high))]
    axis = _Axis(len(series), min(values), max(values))
    band = [(place, high) for place, _, high, _ in bounded] + [(place, low) for place, low, _, _ in reversed(bounded)]
    middle = [(place, harm) for place, _, _, harm in bounded if harm is not None]
    return axis.drawn(
        [
            f'<polygon points="{axis.points(band)}" fill="#5b7fa6" fill-opacity=".25"/>',
            f'<polyline points="{axis.points(middle)}" fill="none" stroke="#24517f" stroke-width="2"/>',
        ],
        [(limit, "allowed")],
        times,
    )


def _evidence_chart(series: Sequence[Reading], times: Sequence[str]) -> str:
    """The e-process (natural logarithm) over looks, and the boundary at which it rolls back."""
    points = [(place, max(one.log_e or 0.0, 0.0)) for place, one in enumerate(series)]
    needed = series[-1].log_needed
    axis = _Axis(len(series), 0.0, max(needed, *(value for _, value in points)))
    line = f'<polyline points="{axis.points(points)}" fill="none" stroke="#24517f" stroke-width="2"/>'
    return axis.drawn([line], [(needed, "rolls back")], times)


def _events_chart(series: Sequence[Reading], times: Sequence[str]) -> str:
    """Cumulated events by arm."""
    arms = [
        (name, colour, [(place, value) for place, value in enumerate(values)])
        for name, colour, values in (
            ("control", "#7a8794", [one.control_events for one in series]),
            ("treatment", "#24517f", [one.treatment_events for one in series]),
        )
    ]
    axis = _Axis(len(series), 0.0, max(1.0, *(value for _, _, points in arms for _, value in points)))
    shapes = [f'<polyline points="{axis.points(p)}" fill="none" stroke="{c}" stroke-width="2"/>' for _, c, p in arms]
    named = " and ".join(f'<span style="color:{colour}">{name}</span>' for name, colour, _ in arms)
    return f"<p class=note>Events so far, {named}</p>" + axis.drawn(shapes, [], times)


class _Axis:
    """Looks to the right, values upwards."""

    def __init__(self, looks: int, low: float, high: float) -> None:
        pad = (high - low or 1.0) * 0.05
        self._looks, self._low, self._high = looks, low - pad, high + pad

    def points(self, points: Sequence[tuple[int, float]]) -> str:
        """Coordinates of an SVG line."""
        return " ".join(f"{self._x(place):.1f},{self._y(value):.1f}" for place, value in points)

    def drawn(self, shapes: Sequence[str], levels: Sequence[tuple[float, str]], times: Sequence[str]) -> str:
        """The picture: shapes, dashed levels with a name, the first and last time, the range of values."""
        lines = [
            f'<line x1="{LEFT}" x2="{RIGHT}" y1="{self._y(value):.1f}" y2="{self._y(value):.1f}" stroke="#b3422f" '
            f'stroke-dasharray="5 4"/><text x="{LEFT + 4}" y="{self._y(value) - 4:.1f}" fill="#b3422f" '
            f'font-size="11">{escape(name)} {value:.3g}</text>'
            for value, name in levels
        ]
        texts = [
            f'<text x="4" y="{HEIGHT - EDGE}" font-size="11">{self._low:.3g}</text>',
            f'<text x="4" y="{EDGE + 4}" font-size="11">{self._high:.3g}</text>',
            f'<text x="{LEFT}" y="{HEIGHT - 3}" font-size="11">{escape(times[0])}</text>',
            f'<text x="{RIGHT}" y="{HEIGHT - 3}" font-size="11" text-anchor="end">{escape(times[-1])}</text>',
        ]
        frame = (
            f'<rect x="{LEFT}" y="{EDGE}" width="{RIGHT - LEFT}" height="{HEIGHT - 2 * EDGE}" fill="none" '
            'stroke="#d5dce3"/>'
        )
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{frame}{"".join([*shapes, *lines, *texts])}</svg>'

    def _x(self, place: int) -> float:
        return LEFT + (RIGHT - LEFT) * (place / (self._looks - 1) if self._looks > 1 else 0.5)

    def _y(self, value: float) -> float:
        part = (value - self._low) / (self._high - self._low)
        return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * min(max(part, 0.0), 1.0)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
