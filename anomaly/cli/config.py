"""`anomaly config`: check, show and compare fleet files, and describe what they may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import typer

from anomaly import fleet as fleets
from anomaly.cli.keys import ACTS, KEYS, Acts, Key
from anomaly.fleet import Fleet

app = typer.Typer(
    add_completion=False, help="Check, show or describe a fleet file.", no_args_is_help=True, rich_markup_mode=None
)

FILE = typer.Argument(Path("fleet.toml"), help="The fleet file.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command()
def check(file: Path = FILE, as_json: bool = AS_JSON) -> None:
    """Say whether a fleet file can be run, or everything that is wrong with it (exit 3)."""
    fleet = fleets.load(file)
    if as_json:
        print(json.dumps({"ok": True, **summary(fleet)}))
    else:
        print(f"{file}: ok")
        for name, value in summary(fleet).items():
            print(f"  {name.replace('_', ' ')}: {value}")


@app.command()
def show(file: Path = FILE, as_json: bool = AS_JSON) -> None:
    """Print all settings that hold, defaults among them, as a fleet file."""
    fleet = fleets.load(file)
    print(json.dumps(tree(fleet), indent=2) if as_json else to_toml(fleet).rstrip())


@app.command()
def schema() -> None:
    """Print the JSON schema of a fleet file, for editors."""
    print(json.dumps(msgspec.json.schema(Fleet), indent=2))


@app.command()
def diff(
    first: Path = typer.Argument(..., help="The fleet file as it was."),
    second: Path = typer.Argument(..., help="The fleet file as it is to be."),
    as_json: bool = AS_JSON,
) -> None:
    """Say what differs between two fleet files, and what each change asks for."""
    changes = differences(fleets.load(first), fleets.load(second))
    if as_json:
        print(json.dumps([change._asdict() for change in changes]))
        return
    if not changes:
        print("no difference")
    for acts, meaning in ACTS.items():
        group = [change for change in changes if change.acts == acts]
        if group:
            print(meaning)
        for change in group:
            print(f"  {change.key}: {_shown(change.before)} -> {_shown(change.after)}")


class Change(NamedTuple):
    """A key that differs: what it was, what it is (None: not set), and what that asks for."""

    key: str
    before: Any
    after: Any
    acts: Acts


def summary(fleet: Fleet) -> dict[str, Any]:
    """A fleet file in a few words."""
    threshold = fleet.threshold
    adapts = threshold.kind == "adaptive" and threshold.adaptation > 0
    return {
        "fleet": fleet.name,
        "time_unit": fleet.fleet.time_unit,
        "signals": len(fleet.signals),
        "regime": ", ".join(fleet.context.regime) or "none",
        "cohort": "none" if fleet.context.cohort is None else ", ".join(fleet.context.cohort) or "the whole fleet",
        "model": fleet.model.family,
        "threshold": f"adaptive, {threshold.adaptation / 2:.0%} up or down" if adapts else "frozen",
        "budget": f"{threshold.false_alarms:g} false alarms per 1,000 healthy vehicle-days",
        "topics": fleet.topic("*"),
    }


def tree(fleet: Fleet) -> dict[str, Any]:
    """All settings that hold, as plain values; what is not set is left out."""
    return _without_none(msgspec.to_builtins(fleet))


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(item) if isinstance(item, dict) else item for key, item in table.items() if item is not None
    }


def to_toml(fleet: Fleet) -> str:
    """All settings that hold, as a fleet file that means the same."""
    import tomlkit

    return tomlkit.dumps(tree(fleet))


def differences(first: Fleet, second: Fleet) -> list[Change]:
    """Every setting that differs between two fleets, in the order of the file.

    Signals that came, went or changed places are one change; their own settings are not listed.
    """
    before, after = _flat(first), _flat(second)
    changes = [
        Change(_path(place), before[place], after[place], _key(place).acts)
        for place in before
        if place in after and before[place] != after[place]
    ]
    if list(first.signals) != list(second.signals):
        return [Change("signals", list(first.signals), list(second.signals), "state"), *changes]
    return changes


def _flat(fleet: Fleet) -> dict[tuple[str, ...], Any]:
    """Each setting by its place: ("signals", name, key) or (table, key)."""
    flat: dict[tuple[str, ...], Any] = {}
    for table, keys in msgspec.to_builtins(fleet).items():
        for key, item in keys.items():
            if table == "signals":
                flat |= {(table, key, inner): value for inner, value in item.items()}
            else:
                flat[table, key] = item
    return flat


def _key(place: tuple[str, ...]) -> Key:
    return KEYS[f"signals.NAME.{place[2]}" if place[0] == "signals" else ".".join(place)]


def _path(place: tuple[str, ...]) -> str:
    import tomlkit

    return ".".join(tomlkit.key(part).as_string() for part in place)


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
