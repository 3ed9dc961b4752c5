"""`anomaly init`: a fleet file from a history, active and sufficient as it is, with what was found as comments."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import typer

from anomaly.cli.keys import KEYS, defaults
from anomaly.errors import UsageError
from anomaly.fleet import TICKS_PER_DAY, TimeUnit

if TYPE_CHECKING:
    from anomaly.telemetry.survey import Found, Survey

SHORT_LIFE = 60
"""With fewer readings a vehicle than this, the usual burn-in would take half of its life."""


class Request(NamedTuple):
    """What the fleet file is written for."""

    history: Path
    vehicle: str
    time: str
    name: str


def init(
    history: Path = typer.Argument(..., help="The past: a Parquet file or folder, an Arrow file, or CSV."),
    vehicle: str = typer.Option(..., "--vehicle", help="The column that says which vehicle."),
    time: str = typer.Option(..., "--time", help="The column that says when."),
    name: str = typer.Option("", "--name", help="The fleet's name; the file's, if not given."),
    time_unit: str = typer.Option("", "--time-unit", help="ms, s or cycles; found in the data, if not given."),
) -> None:
    """Write a fleet file from a history: anomaly init HISTORY --vehicle COLUMN --time COLUMN > fleet.toml."""
    from anomaly.telemetry.survey import survey

    if vehicle == time:
        raise UsageError(f"--vehicle and --time are both `{time}`; name two columns")
    if name and name != _fit_name(name):
        raise UsageError(f"--name {name} cannot be a fleet's name; use `{_fit_name(name)}`")
    request = Request(history, vehicle, time, name or _fit_name(history.resolve().name.split(".")[0]))
    found = survey(history, vehicle, time, _unit(time_unit))
    print(fleet_file(request, found))
    for line in _told(found):
        print(line, file=sys.stderr)


def _unit(text: str) -> TimeUnit | None:
    for unit in TICKS_PER_DAY:
        if text == unit:
            return unit
    if text:
        raise UsageError(f"--time-unit {text} is not known; one of {', '.join(TICKS_PER_DAY)}")
    return None


def _fit_name(text: str) -> str:
    """A name that topics and folders can have, out of any text."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:120] or "fleet"


def _told(found: Survey) -> Iterator[str]:
    """The lines for the person at the terminal."""
    yield f"{found.vehicles:,} vehicles, {found.readings:,} readings, time in {found.time_unit}: {found.time_reason}"
    yield from found.notes
    yield (
        f"{len(found.signals)} signals to score, {len(found.regime)} regime signals, {len(found.left)} columns "
        "left out (the file says why)"
    )


def fleet_file(request: Request, found: Survey) -> str:
    """The text of the fleet file; it can be read by `anomaly.fleet.load` as it is."""
    lines = [*_head(request, found), *_signals(found), *_left(found), *_context(found), *_tables(found)]
    return "\n".join(lines)


def _head(request: Request, found: Survey) -> Iterator[str]:
    call = f"anomaly init {request.history.name} --vehicle {request.vehicle} --time {request.time}"
    yield _comment(f"Written by `{call}`: {found.vehicles:,} vehicles, {found.readings:,} readings.")
    yield "# It works as it is. A line that begins with `#` is a remark, or a setting with its default."
    yield ""
    yield "[fleet]"
    yield f"name = {_value(request.name)}"
    yield f"vehicle = {_value(request.vehicle)}"
    yield f"time = {_value(request.time)}"
    yield f"time_unit = {_value(found.time_unit)}  # {found.time_reason}"


def _signals(found: Survey) -> Iterator[str]:
    yield ""
    yield f"# Signals that are scored, in the order of the matrix: {len(found.signals)}. Each may have:"
    for key, default in _group("signals.NAME"):
        yield f"#   {key} = {default}  # {KEYS[f'signals.NAME.{key}'].meaning}"
    yield "# The range that was seen is no limit: it would hide the very fault that is looked for."
    for signal in found.signals:
        yield from _signal(signal)


def _signal(signal: Found) -> Iterator[str]:
    yield f"[signals.{_key(signal.name)}]  # seen: {signal.low:.7g} to {signal.high:.7g}"
    if signal.remark:
        yield _comment(signal.remark)
    if signal.stuck_after:
        yield f"stuck_after = {signal.stuck_after}"


def _left(found: Survey) -> Iterator[str]:
    if found.left:
        yield ""
        yield "# Not scored, and why. To score one all the same, give it a table: [signals.NAME]"
        for column in found.left:
            yield _comment(f"  {_key(column.name)} {column.why}")


def _context(found: Survey) -> Iterator[str]:
    yield ""
    yield "[context]"
    yield "# What a vehicle is doing and where (speed, load, gear, outside temperature) belongs in `regime` rather"
    yield "# than among the signals. Data alone show it only where it has a few separate values."
    if found.regime:
        names = ", ".join(_value(name) for name in found.regime)
        yield f"regime = [{names}]  # {KEYS['context.regime'].meaning}; {found.regimes} regimes"
    else:
        yield f"# regime = []  # {KEYS['context.regime'].meaning}"
    if found.time_unit == "cycles":
        return
    names = ", ".join(_value(cohort.name) for cohort in found.cohorts)
    yield f"# cohort = [{names}]  # {KEYS['context.cohort'].meaning}"
    for cohort in found.cohorts:
        groups = f"{cohort.groups} groups, at least {cohort.smallest} vehicles in each"
        yield _comment(f"  {_key(cohort.name)}: {groups}")
    for key in ("period", "max_cohorts", "max_wait"):
        yield f"# {key} = {_default(f'context.{key}')}  # {KEYS[f'context.{key}'].meaning}"


def _tables(found: Survey) -> Iterator[str]:
    """The other tables, every key of theirs a comment, but what this history needs otherwise."""
    for table in ("history", "quality", "baseline", "model", "threshold", "alerts", "log", "stream", "state"):
        yield ""
        yield f"[{table}]"
        for key, default in _group(table):
            meaning = KEYS[f"{table}.{key}"].meaning
            if (table, key) == ("baseline", "burn_in"):
                yield _burn_in(found, meaning)
            elif (table, key) == ("model", "family") and len(found.signals) == 1:
                yield 'family = "auto"  # with one signal: each vehicle is judged by its own past (`conformal`)'
            else:
                yield f"# {key} = {default}  # {meaning}"


def _burn_in(found: Survey, meaning: str) -> str:
    """The usual burn-in as a comment with how long it lasts; a shorter one where vehicles have few readings."""
    usual = int(defaults()["baseline.burn_in"])
    if found.length < SHORT_LIFE:
        return f"burn_in = {max(2, found.length // 6)}  # {meaning}; half of the vehicles have under {found.length + 1}"
    if found.time_unit == "cycles":
        return f"# burn_in = {usual}  # {meaning}"
    seconds = usual * found.interval / (TICKS_PER_DAY[found.time_unit] / 86_400)
    return f"# burn_in = {usual}  # {meaning}; {usual} readings last about {_span(seconds)} here"


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _group(table: str) -> list[tuple[str, str]]:
    """The keys of a table with their defaults as TOML."""
    keys = [path for path in KEYS if path.rpartition(".")[0] == table]
    return [(path.rpartition(".")[2], _default(path)) for path in keys]


def _default(path: str) -> str:
    default = defaults()[path]
    return "..." if default is None or default is msgspec.NODEFAULT else _value(default)


def _value(value: Any) -> str:
    import tomlkit

    plain = msgspec.to_builtins(value)
    if isinstance(plain, dict):
        table = tomlkit.inline_table()
        table.update(plain)
        return str(table.as_string())
    return str(tomlkit.item(list(plain) if isinstance(plain, tuple) else plain).as_string())


def _key(name: str) -> str:
    import tomlkit

    return str(tomlkit.key(name).as_string())


def _comment(text: str) -> str:
    """One line of comment, whatever a column's name holds."""
    return "# " + "".join(char if char.isprintable() else "?" for char in text)
