"""A run's folder as SQL: stable views for questions, and nothing but reading."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from anomaly.errors import UsageError
from anomaly.experiments.report import report
from anomaly.feedback.archive import reading_schema
from anomaly.feedback.decisions import schema
from anomaly.feedback.labels import LabelStore, as_of, label_id
from anomaly.feedback.shadow_log import day_schema
from anomaly.feedback.shadow_log import schema as shadow_schema
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.outcomes import update_outcomes
from anomaly.service.rows import ARCHIVE, DECISIONS, SHADOW, SHADOW_DAYS, log_parts

MEMORY = "1GB"
ALERTS = """
    SELECT episode AS alert, any_value(vehicle) AS vehicle, any_value(kind) AS kind, min(ts) AS start,
        arg_max(ts, level) AS peak, max(ts) AS last, max(level) AS level, count(*) AS rows,
        arg_min(model, ts) AS model, arg_min(arm, ts) AS arm, arg_max(top_signals, level) AS signals,
        any_value(region) AS region
    FROM decisions WHERE episode IS NOT NULL GROUP BY episode
"""


class Place(NamedTuple):
    """What is asked: a run's folder, its fleet and the registry."""

    run: Path
    fleet: Fleet
    registry: Registry


class Answer(NamedTuple):
    """The names of the columns, and the rows."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def ask(place: Place, query: str) -> Answer:
    """The answer to one SELECT over the views of VIEWS. Raises UsageError for anything else, or for wrong SQL.

    The database is in memory and sees nothing of the disk; it may use MEMORY.
    """
    import duckdb

    with duckdb.connect(":memory:", config={"enable_external_access": "false", "memory_limit": MEMORY}) as connection:
        try:
            statements = connection.extract_statements(query)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise UsageError("one SELECT is answered, nothing is changed: write `select ... from ...`")
            _open(connection, place, query)
            connection.execute("SET python_enable_replacements = false")
            connection.execute("SET lock_configuration = true")
            found = connection.execute(query)
            return Answer([column[0] for column in found.description], found.fetchall())
        except duckdb.Error as error:
            raise _wrong(error) from error


def _wrong(error: Exception) -> UsageError:
    return UsageError(f"{str(error).strip()}\nviews: {', '.join(VIEWS)}; `describe VIEW` lists the columns of one")


def _open(connection: Any, place: Place, query: str) -> None:
    """Make the views that a query names, with those that they are made of; all of them where it names none."""
    words = set(re.findall(r"\w+", query.lower()))
    chosen = [name for name in VIEWS if name in words] or list(VIEWS)
    if "alerts" in chosen and DECISIONS not in chosen:
        chosen.insert(0, DECISIONS)
    for name in chosen:
        VIEWS[name](connection, place)


def _decisions(connection: Any, place: Place) -> None:
    _log(connection, place, DECISIONS, schema(), "decisions")


def _readings(connection: Any, place: Place) -> None:
    _log(connection, place, ARCHIVE, reading_schema(place.fleet), "readings")


def _shadow(connection: Any, place: Place) -> None:
    _log(connection, place, SHADOW, shadow_schema(), "shadow")


def _shadow_days(connection: Any, place: Place) -> None:
    _log(connection, place, SHADOW_DAYS, day_schema(), "shadow_days")


def _log(connection: Any, place: Place, name: str, wanted: Any, view: str) -> None:
    """Files as a data set that is read when it is asked for, then the rows that are in no file yet."""
    import pyarrow as pa
    import pyarrow.dataset

    files, tables = log_parts(place.run, name)
    rows = pa.concat_tables([wanted.empty_table(), *tables], promote_options="default").select(wanted.names)
    paths = [str(place.run / name / file) for file in files]
    connection.register(f"_{name}_files", pyarrow.dataset.dataset(paths, format="parquet", schema=wanted))
    connection.register(f"_{name}_rows", rows)
    connection.execute(
        f"CREATE VIEW {view} AS SELECT * FROM _{name}_files UNION ALL BY NAME SELECT * FROM _{name}_rows"
    )


def _alerts(connection: Any, _place: Place) -> None:
    connection.execute(f"CREATE VIEW alerts AS {ALERTS}")


def _outcomes(connection: Any, place: Place) -> None:
    """A row an alert, and one without an alert for each fault that was missed."""
    found = update_outcomes(place.run, place.fleet)
    connection.register("_episodes", found.episodes)
    connection.register("faults", found.faults)
    connection.execute(
        'CREATE VIEW outcomes AS SELECT vehicle, episode AS alert, kind, start, "end", level, count, model, arm, state,'
        " NULL::BIGINT AS lead FROM _episodes UNION ALL SELECT vehicle, NULL, 'fault', start, \"end\", NULL, NULL,"
        " NULL, NULL, state, lead FROM faults WHERE state = 'missed'"
    )


def _faults(connection: Any, place: Place) -> None:
    if not connection.execute("SELECT 1 FROM duckdb_views() WHERE view_name = 'faults'").fetchall():
        connection.register("faults", update_outcomes(place.run, place.fleet).faults)


def _labels(connection: Any, place: Place) -> None:
    """All that was ever said; `holds` where no later report replaced it."""
    labels = LabelStore(place.run / "labels").read()
    holding = set(as_of(labels))
    rows = [{"label": label_id(label), **msgspec.to_builtins(label), "holds": label in holding} for label in labels]
    _rows(connection, "labels", rows, LABELS)


def _models(connection: Any, place: Place) -> None:
    registry, rows = place.registry, []
    for fleet in registry.fleets():
        names = registry.aliases(fleet)
        for entry in registry.entries(fleet):
            manifest = registry.manifest(entry)
            aliases = [alias for alias, number in names.items() if number == manifest.number]
            rows.append(
                {
                    "model": manifest.reference,
                    "fleet": fleet,
                    "number": manifest.number,
                    "family": manifest.family,
                    "aliases": aliases,
                    "k": manifest.k,
                    "q_fleet": manifest.q_fleet,
                    "budget": manifest.budget,
                    "parent": manifest.parent,
                    "trained_from": manifest.window.start,
                    "trained_to": manifest.window.end,
                    "digest": manifest.digest,
                    "frame": manifest.frame,
                }
            )
    _rows(connection, "models", rows, MODELS)


def _experiments(connection: Any, place: Place) -> None:
    """A row an experiment as it stands; status `not begun` where it has no state."""
    folder, rows = place.run / "experiments", []
    for path in sorted(folder.glob("*.toml")):
        found = report(folder, path.stem)
        state = found.state
        rows.append(
            {
                "experiment": found.experiment.id,
                "revision": found.experiment.revision,
                "status": state.status if state else "not begun",
                "verdict": state.verdict if state else None,
                "reason": state.reason if state else None,
                "share": state.share if state else None,
                "models": sorted(state.models.items()) if state else None,
            }
        )
    _rows(connection, "experiments", rows, EXPERIMENTS)


def _rows(connection: Any, name: str, rows: Sequence[dict[str, Any]], types: str) -> None:
    """A table of `rows`, with the columns and DuckDB types of `types`, from JSON text."""
    connection.execute(f"CREATE TABLE {name} ({types})")
    names = [part.split()[0].strip('"') for part in types.split(", ")]
    marks = ", ".join("?" for _ in names)
    values = [[row.get(column) for column in names] for row in rows]
    if values:
        connection.executemany(f"INSERT INTO {name} VALUES ({marks})", values)


LABELS = (
    'label VARCHAR, vehicle VARCHAR, "from" BIGINT, "to" BIGINT, verdict VARCHAR, source VARCHAR, code VARCHAR,'
    " reported_at BIGINT, alert VARCHAR, note VARCHAR, holds BOOLEAN"
)
MODELS = (
    "model VARCHAR, fleet VARCHAR, number INTEGER, family VARCHAR, aliases VARCHAR[], k DOUBLE, q_fleet DOUBLE,"
    " budget DOUBLE, parent INTEGER, trained_from BIGINT, trained_to BIGINT, digest VARCHAR, frame VARCHAR"
)
EXPERIMENTS = (
    "experiment VARCHAR, revision INTEGER, status VARCHAR, verdict VARCHAR, reason VARCHAR, share DOUBLE,"
    " models VARCHAR[][]"
)
VIEWS: dict[str, Callable[[Any, Place], None]] = {
    "decisions": _decisions,
    "alerts": _alerts,
    "outcomes": _outcomes,
    "faults": _faults,
    "labels": _labels,
    "models": _models,
    "experiments": _experiments,
    "readings": _readings,
    "shadow": _shadow,
    "shadow_days": _shadow_days,
}
