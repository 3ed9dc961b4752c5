"""The outcomes of a run, kept up to date: only vehicles about which something new is known are joined again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from anomaly.errors import DataError
from anomaly.feedback.history import Past
from anomaly.feedback.labels import CONFIRMED, LabelStore, as_of
from anomaly.feedback.outcomes import Moment, Outcomes, Told, changes, outcomes, read_outcomes, write_outcomes
from anomaly.fleet import Fleet
from anomaly.service.look import restarts_in
from anomaly.service.rows import ARCHIVE, DECISIONS, log_parts
from anomaly.telemetry.records import Label

ALARMS = "SELECT vehicle, ts, alarm, episode, kind, level, model, arm FROM log WHERE alarm AND ts <= $cutoff"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How far outcomes are: their cutoff, the labels that were there, and the files of decisions that were read.

    `settings` is the digest of what else they depend on; with another one everything is joined again.
    """

    cutoff: int
    labels: int
    files: list[str]
    settings: str


class _Asked(NamedTuple):
    """What an update is made of: labels and everything that is there at the cutoff."""

    run: Path
    fleet: Fleet
    moment: Moment
    labels: list[Label]
    log: Log


class Log:
    """A log of a run for DuckDB, by the name `log` in a query: the rows of files, then those of stores."""

    def __init__(self, run: Path, name: str, group: str | None = None) -> None:
        self._folder = run / name
        self.files, self._tables = log_parts(run, name, group)

    def select(self, query: str, *, without: Collection[str] = (), **parameters: object) -> Any:
        """The Arrow table of `query`, over all files but those of `without`; None if the log is empty."""
        import duckdb
        import pyarrow as pa

        files = [str(self._folder / name) for name in self.files if name not in without]
        parts = []
        with duckdb.connect(":memory:") as connection:
            connection.execute("SET python_enable_replacements = false")
            if files:
                paths = ", ".join(f"'{path.replace(chr(39), chr(39) * 2)}'" for path in files)
                connection.execute(
                    f"CREATE VIEW files AS SELECT * FROM read_parquet([{paths}], union_by_name = true,"
                    " hive_partitioning = false)"
                )
                parts.append("SELECT * FROM files")
            if self._tables:
                connection.register("rows", pa.concat_tables(self._tables, promote_options="default"))
                parts.append("SELECT * FROM rows")
            if not parts:
                return None
            try:
                connection.execute(f"CREATE VIEW log AS {' UNION ALL BY NAME '.join(parts)}")
                return connection.sql(query, params=parameters).to_arrow_table()
            except duckdb.IOException as error:
                raise DataError(f"{self._folder} cannot be read: {str(error).splitlines()[0]}") from error


def newest(run: Path) -> int:
    """The time of the newest reading of a run. DataError if nothing was scored yet."""
    found = Log(run, ARCHIVE).select("SELECT max(ts) AS ts FROM log") or Log(run, DECISIONS).select(
        "SELECT max(ts) AS ts FROM log"
    )
    if found is None or found["ts"][0].as_py() is None:
        raise DataError(f"{run} holds no reading yet: `anomaly score` writes them; or give another --dir")
    return int(found["ts"][0].as_py())


def update_outcomes(run: Path, fleet: Fleet, cutoff: int | None = None) -> Outcomes:
    """Bring `run`/outcomes up to the newest reading, or to `cutoff`, and answer them.

    The result is the same as joining everything at once. What changed is added to `changes.jsonl`.
    """
    moment = Moment(
        newest(run) if cutoff is None else cutoff, int(fleet.history.label_delay_days * fleet.ticks_per_day)
    )
    labels = LabelStore(run / "labels").read()
    asked = _Asked(run, fleet, moment, labels, Log(run, DECISIONS))
    restarts = restarts_in(run)
    folder = run / "outcomes"
    settings = f"{fleet.digest()} {moment.label_delay} {len(restarts)}"
    before, done = read_outcomes(folder), _read_done(folder)
    known = before is not None and done is not None and done.settings == settings and done.cutoff <= moment.cutoff
    touched = _touched(asked, before, done) if known and before is not None and done is not None else None
    told = Told(_past(asked, touched), labels, restarts)
    alarms = _alarms(asked, touched)
    found = outcomes(alarms, told, fleet, moment)
    if before is not None and touched is not None:
        found = found.replacing(before, touched)
    lines = changes(before, found, as_of(labels, moment.cutoff), moment.cutoff, fleet.digest())
    write_outcomes(found, folder)
    with (folder / "changes.jsonl").open("ab") as file:
        file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    done = Done(cutoff=moment.cutoff, labels=len(labels), files=asked.log.files, settings=settings)
    (folder / "done.json").write_bytes(msgspec.json.encode(done))
    return found


def _read_done(folder: Path) -> Done | None:
    try:
        return msgspec.json.decode((folder / "done.json").read_bytes(), type=Done)
    except (OSError, msgspec.MsgspecError):
        return None


def _touched(asked: _Asked, before: Outcomes, done: Done) -> set[str] | None:
    """Vehicles whose outcomes may be others now; None: all of them.

    With a confirmed fault, every further reading counts, so that such vehicles are always among them.
    """
    if asked.fleet.history.run_to_failure:
        return None
    cutoff = asked.moment.cutoff
    touched = {label.vehicle for label in as_of(asked.labels, cutoff) if label.verdict in CONFIRMED}
    touched |= {label.vehicle for label in asked.labels[done.labels :]}
    touched |= {one.vehicle for one in asked.labels if _reported(one, done.cutoff, cutoff)}
    states = zip(before.episodes["vehicle"].to_pylist(), before.episodes["state"].to_pylist(), strict=True)
    touched |= {vehicle for vehicle, state in states if state == "immature"}
    query = "SELECT DISTINCT vehicle FROM log WHERE alarm AND ts > $after"
    late = asked.log.select(query, without=frozenset(done.files), after=-(2**63))
    later = asked.log.select(query, after=done.cutoff)
    return touched.union(*(new["vehicle"].to_pylist() for new in (late, later) if new is not None))


def _reported(label: Label, after: int, until: int) -> bool:
    return label.reported_at is not None and after < label.reported_at <= until


def _alarms(asked: _Asked, touched: set[str] | None) -> Any:
    from anomaly.feedback.decisions import schema

    query, parameters = _of(ALARMS, touched)
    table = asked.log.select(query, cutoff=asked.moment.cutoff, **parameters)
    return schema().empty_table() if table is None else table


def _past(asked: _Asked, touched: set[str] | None) -> Past:
    """When the vehicles that are looked at, and that may have a fault, sent a reading."""
    names: set[str] | None = {label.vehicle for label in asked.labels if label.verdict in CONFIRMED}
    if asked.fleet.history.run_to_failure:
        names = touched
    query, parameters = _of("SELECT vehicle, ts FROM log WHERE ts <= $cutoff", names)
    table = Log(asked.run, ARCHIVE).select(query, cutoff=asked.moment.cutoff, **parameters)
    return Past([], np.zeros(0, np.int64), np.zeros(0, np.int64)) if table is None else past_of(table)


def past_of(table: Any) -> Past:
    """The past that the columns `vehicle` and `ts` of an Arrow table tell of."""
    import pyarrow as pa

    coded = table["vehicle"].combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.unify_dictionaries().combine_chunks()
    return Past(coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64), table["ts"].to_numpy())


def _of(query: str, names: Collection[str] | None) -> tuple[str, dict[str, Sequence[str]]]:
    if names is None:
        return query, {}
    return f"{query} AND vehicle IN (SELECT unnest($names::VARCHAR[]))", {"names": sorted(names)}
