"""Two tables of decisions that should be the same, row by row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

SHOWN = 10
PLACE = ("partition", "offset")


class Since(NamedTuple):
    """Compare decisions from this offset, and from this time, on."""

    offset: int = 0
    ts: int = -(2**62)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that came out otherwise; `column` is empty where it is on one side only."""

    vehicle: str
    ts: int
    column: str
    logged: Any
    replayed: Any


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How many decisions were replayed and compared, `shadows` of them by models that are tried beside those that act;
    how many differ, and the first of these."""

    compared: int
    differing: int
    first: list[Difference]
    shadows: int = 0

    def beside(self, shadows: Replayed) -> Replayed:
        """Both together, `shadows` being of the shadow log."""
        return Replayed(
            compared=self.compared + shadows.compared,
            differing=self.differing + shadows.differing,
            first=[*self.first, *shadows.first][:SHOWN],
            shadows=shadows.compared,
        )


def compare(logged: Any, replayed: Any, since: Since, placed: bool) -> Replayed:
    """Compare tables of decisions by vehicle and time, and by partition and offset where they are `placed`.

    Both have the same columns, those of the decision log or of the shadow log.

    Where a decision was logged more than once, as after a fresh start, any of them may be the equal one.
    """
    keys = [*(PLACE if placed else ()), "vehicle", "ts"]
    logged, replayed = (
        _plain(table, since, placed).sort_by([(key, "ascending") for key in keys]) for table in (logged, replayed)
    )
    if logged.equals(replayed):
        return Replayed(compared=len(replayed), differing=0, first=[])
    sides = [_grouped(table, keys) for table in (logged, replayed)]
    found = [
        difference
        for key in dict.fromkeys([*sides[0], *sides[1]])
        if (difference := _difference(sides[0].get(key, []), sides[1].get(key, []))) is not None
    ]
    return Replayed(compared=len(replayed), differing=len(found), first=found[:SHOWN])


def _plain(table: Any, since: Since, placed: bool) -> Any:
    """The part that is asked for, words as text, and no places where these mean nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [name for name in table.column_names if placed or name not in PLACE]
    wanted = pc.greater_equal(table["ts"], since.ts)
    if placed:
        wanted = pc.and_(wanted, pc.fill_null(pc.greater_equal(table["offset"], since.offset), True))
    table = table.filter(wanted).select(columns)
    text = [pa.string() if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(list(zip(columns, text, strict=True))))


def _grouped(table: Any, keys: Sequence[str]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def _difference(logged: list[dict[str, Any]], replayed: list[dict[str, Any]]) -> Difference | None:
    """What differs in the rows of one key, None if nothing."""
    if logged and replayed and replayed[0] in logged:
        return None
    row = (logged or replayed)[0]
    column, pair = "", (bool(logged) or None, bool(replayed) or None)
    if logged and replayed:
        column = next(name for name in row if logged[-1][name] != replayed[0][name])
        pair = logged[-1][column], replayed[0][column]
    return Difference(vehicle=row["vehicle"], ts=row["ts"], column=column, logged=pair[0], replayed=pair[1])
