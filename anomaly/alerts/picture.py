"""A picture of how a vehicle's level went: one SVG file that any browser opens."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 300, 52, 16, 34, 34
MOST = 4.0
"""A level above this one is drawn at the top."""
COLOURS = {"": "#4d5b66", "sensor": "#b08900", "silence": "#7a3e8e"}
ALARM = "#c1440e"


def level_picture(title: str, past: Sequence[tuple[int, float, str]], onset: int | None, words: tuple[str, str]) -> str:
    """The SVG of readings as (`ts`, level, kind of alarm, empty: none), oldest first; a line at level 1.0, a dashed one
    at the `onset`. `words` are the times of the first and the last reading."""
    first, last = past[0][0], max(past[-1][0], past[0][0] + 1)
    top = min(MOST, max(1.5, *(level for _, level, _ in past)))

    def x(ts: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (ts - first) / (last - first)

    def y(level: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(level, 0.0), top) / top

    line = " ".join(f"{x(ts):.1f},{y(level):.1f}" for ts, level, _ in past)
    dots = "".join(
        f'<circle cx="{x(ts):.1f}" cy="{y(level):.1f}" r="3" fill="{COLOURS.get(kind, ALARM)}"/>'
        for ts, level, kind in past
        if kind
    )
    began = ""
    if onset is not None:
        began = (
            f'<line x1="{x(onset):.1f}" x2="{x(onset):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="onset"/>'
            f'<text x="{x(onset) + 4:.1f}" y="{TOP + 10}">onset</text>'
        )
    floor = HEIGHT - BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        "<style>rect{fill:#fff}text{font:12px system-ui,sans-serif;fill:#4d5b66}.title{font-size:14px;fill:#1d2327}"
        ".level{fill:none;stroke:#2b5c8a;stroke-width:1.5}.threshold{stroke:#c1440e}"
        ".axis{stroke:#d5dade}.onset{stroke:#0b6e4f;stroke-dasharray:4 3}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT}"/><text x="{LEFT}" y="20" class="title">{escape(title)}</text>'
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}" class="axis"/>'
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(1.0):.1f}" y2="{y(1.0):.1f}" class="threshold"/>'
        f'<text x="8" y="{y(1.0) + 4:.1f}">line 1</text><text x="8" y="{y(top) + 4:.1f}">{top:.1f}</text>'
        f'<polyline points="{line}" class="level"/>{dots}{began}'
        f'<text x="{LEFT}" y="{HEIGHT - 10}">{escape(words[0])}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 10}" text-anchor="end">{escape(words[1])}</text></svg>\n'
    )
