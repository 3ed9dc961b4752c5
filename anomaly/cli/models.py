"""`anomaly models`: what is in the registry, whether it is whole, and which model is the champion."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anomaly.errors import GateError, ModelError

if TYPE_CHECKING:
    from anomaly.registry.store import Entry, Registry

app = typer.Typer(help="List, show, verify, promote and roll back models.", no_args_is_help=True, rich_markup_mode=None)

MODELS = typer.Option(Path("models"), "--models", help="The registry's folder.")
MODEL = typer.Argument(..., help="FLEET@champion, FLEET/NUMBER or a digest.")
REASON = typer.Option(..., "--reason", help="Why; kept in the fleet's history.jsonl.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command("list")
def list_models(
    fleet: str = typer.Option("", "--fleet", help="Only this fleet's models."),
    models: Path = MODELS,
    as_json: bool = AS_JSON,
) -> None:
    """List the models of all fleets, the oldest first, with their aliases."""
    rows = list(_rows(_registry(models), [fleet] if fleet else None))
    if as_json:
        print(json.dumps(rows))
    elif rows:
        _print_table([{name: _cell(value) for name, value in row.items()} for row in rows])
    else:
        print(f"no models in {models}; `anomaly train` makes one", file=sys.stderr)


@app.command()
def show(model: str = MODEL, models: Path = MODELS, as_json: bool = AS_JSON) -> None:
    """Show one model's manifest."""
    registry = _registry(models)
    entry = registry.resolve(model)
    manifest = registry.manifest(entry)
    tree = json.loads(manifest.to_json())
    names = _aliases_of(registry, entry)
    if as_json:
        print(json.dumps({**tree, "aliases": names}))
        return
    print(f"{manifest.reference}  {', '.join(names)}".rstrip())
    for name, value in tree.items():
        if name not in ("name", "number", "seal", "version"):
            print(f"  {name.replace('_', ' '):14}{_plain(value)}")


@app.command()
def verify(
    model: str = typer.Argument("", help="FLEET@champion, FLEET/NUMBER or a digest; all models, if not given."),
    models: Path = MODELS,
    as_json: bool = AS_JSON,
) -> None:
    """Compare every digest, look for what could hurt, and try each model in a limited process (exit 1)."""
    registry = _registry(models)
    entries = [registry.resolve(model)] if model else _all_entries(registry)
    results = [{"model": entry.reference, "problem": _problem(registry, entry)} for entry in entries]
    bad = [result["model"] for result in results if result["problem"]]
    if as_json:
        print(json.dumps([{**result, "ok": not result["problem"]} for result in results]))
    else:
        for result in results:
            print(f"{result['model']}: {result['problem'] or 'ok'}")
    if bad:
        raise GateError(f"{len(bad)} of {len(results)} models must not be used: {', '.join(map(str, bad))}")


@app.command()
def promote(model: str = MODEL, reason: str = REASON, models: Path = MODELS) -> None:
    """Verify a model and make it its fleet's champion; running scorers take it up by themselves."""
    registry = _registry(models)
    entry = registry.resolve(model)
    before = registry.aliases(entry.fleet).get("champion")
    registry.promote(entry.fleet, entry.number, reason)
    print(f"{entry.fleet}: champion is {entry.number}{f', was {before}' if before else ''}")


@app.command()
def rollback(
    fleet: str = typer.Argument(..., help="The fleet's name."), reason: str = REASON, models: Path = MODELS
) -> None:
    """Make the champion before this one the champion again."""
    registry = _registry(models)
    before = registry.aliases(fleet).get("champion")
    entry = registry.rollback(fleet, reason)
    print(f"{fleet}: champion is {entry.number}, was {before}")


def _registry(folder: Path) -> Registry:
    from anomaly.registry.store import Registry

    return Registry(folder)


def _all_entries(registry: Registry) -> list[Entry]:
    return [entry for fleet in registry.fleets() for entry in registry.entries(fleet)]


def _aliases_of(registry: Registry, entry: Entry) -> list[str]:
    return [alias for alias, number in registry.aliases(entry.fleet).items() if number == entry.number]


def _rows(registry: Registry, fleets: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    for fleet in registry.fleets() if fleets is None else fleets:
        for entry in registry.entries(fleet):
            row: dict[str, Any] = {"model": entry.reference, "aliases": _aliases_of(registry, entry)}
            try:
                manifest = registry.manifest(entry)
            except ModelError as error:
                yield {**row, "family": None, "vehicles": None, "k": None, "digest": None, "problem": str(error)}
                continue
            yield {
                **row,
                "family": manifest.family,
                "vehicles": manifest.window.vehicles,
                "k": manifest.k,
                "digest": manifest.digest,
                "problem": None,
            }


def _problem(registry: Registry, entry: Entry) -> str | None:
    try:
        registry.verify(entry)
    except ModelError as error:
        return str(error)
    return None


def _cell(value: Any) -> str:
    """A value in a table; a digest by its beginning, which is enough to name it."""
    if isinstance(value, str) and len(value) == 64:
        return value[:12]
    return _plain(value)


def _plain(value: Any) -> str:
    """A value of a manifest in one line."""
    if value is None or value in ("", {}):
        return "-"
    if isinstance(value, dict):
        known = {name: item for name, item in value.items() if item not in (None, "")}
        return ", ".join(f"{name} {_plain(item)}" for name, item in known.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print_table(rows: list[dict[str, str]]) -> None:
    """Columns as wide as their widest cell, those without any value left out."""
    names = [name for name in rows[0] if any(row[name] not in ("", "-") for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    for row in [{name: name for name in names}, *rows]:
        print("  ".join(row[name].ljust(widths[name]) for name in names).rstrip())
