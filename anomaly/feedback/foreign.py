"""Tables of other systems as rows of labels: their encoding, delimiter, columns, words and times."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from anomaly import settings
from anomaly.errors import DataError
from anomaly.fleet import Fleet, TimeUnit
from anomaly.telemetry.records import Label
from anomaly.telemetry.table import read_table, require_columns

FIELDS = tuple(field.encode_name for field in msgspec.structs.fields(Label))
REQUIRED = ("vehicle", "to", "verdict")
TIMES = ("from", "to", "reported_at")
DELIMITERS = ",;\t|"


class Translation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping file: how another system writes what a label says.

    `columns` gives the file's column for a field of a label, `verdicts` our word for one of theirs. `source` is
    who speaks where no column says so; `days_before` makes `from` of `to` where the file has only one date.
    `time_format` is that of `strptime`; without it times are whole ticks or ISO 8601. Times without a zone are UTC.
    """

    encoding: str = "utf-8-sig"
    delimiter: str | None = None
    columns: dict[str, str] = {}
    verdicts: dict[str, str] = {}
    source: str | None = None
    days_before: float | None = None
    time_format: str | None = None

    def __post_init__(self) -> None:
        problems = [f"columns.{name}: no field of a label; one of {', '.join(FIELDS)}" for name in self.columns]
        problems = [problem for name, problem in zip(self.columns, problems, strict=True) if name not in FIELDS]
        if self.delimiter is not None and len(self.delimiter) != 1:
            problems.append(f"delimiter: `{self.delimiter}` is not one character")
        try:
            "".encode(self.encoding)
        except LookupError:
            problems.append(f"encoding: `{self.encoding}` is not known; such as utf-8, latin-1, cp1252, utf-16")
        if problems:
            raise ValueError("\n".join(problems))


class Row(NamedTuple):
    """A row as the fields of a label, or why it is none; `line` is that of the file, in Parquet the row's number."""

    line: int
    fields: dict[str, Any]
    problem: str | None = None


def load_translation(path: Path) -> Translation:
    """Read a mapping file; ConfigError says everything that is wrong with it."""
    return settings.load(path, Translation)


def rows_of(path: Path, fleet: Fleet, translation: Translation) -> Iterator[Row]:
    """Each row of a CSV or Parquet file. Raises DataError for a file that cannot be read or lacks a column."""
    if path.suffix.lower() in (".csv", ".txt", ".tsv"):
        raw = _csv_rows(path, translation)
    else:
        table = read_table(path, None)
        _require(path, translation, table.column_names)
        raw = (Row(number, fields) for number, fields in enumerate(table.to_pylist(), start=1))
    for row in raw:
        yield row if row.problem else _translated(row, fleet, translation)


def _csv_rows(path: Path, translation: Translation) -> Iterator[Row]:
    try:
        text = path.read_bytes().decode(translation.encoding)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {translation.encoding}: byte {error.start} is {error.object[error.start]:#04x}; a mapping "
            'file names another one, such as encoding = "cp1252" (--mapping)'
        ) from error
    lines = text.splitlines(keepends=True)
    if len(lines) < 2:
        raise DataError(f"{path} is empty: it holds no row")
    delimiter = translation.delimiter or max(DELIMITERS, key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter)
    header = [name.strip() for name in next(reader)]
    _require(path, translation, header)
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        wrong = None
        if len(cells) != len(header):
            wrong = f"has {len(cells)} of {len(header)} columns; the file may be half written"
        yield Row(reader.line_num, dict(zip(header, cells, strict=False)), wrong)


def _require(path: Path, translation: Translation, present: list[str]) -> None:
    needed = [*REQUIRED, *(["from"] if translation.days_before is None else [])]
    needed += ["source"] if translation.source is None else []
    require_columns(path, [translation.columns.get(name, name) for name in needed], present)


def _translated(row: Row, fleet: Fleet, translation: Translation) -> Row:
    fields: dict[str, Any] = {}
    for name in FIELDS:
        value = row.fields.get(translation.columns.get(name, name))
        value = value.strip() if isinstance(value, str) else value
        if value is None or value == "":
            continue
        try:
            fields[name] = _value(name, value, fleet.fleet.time_unit, translation)
        except ValueError as error:
            return Row(row.line, {}, f"{name}: {error}")
    if translation.source is not None:
        fields.setdefault("source", translation.source)
    if translation.days_before is not None and "to" in fields:
        fields.setdefault("from", fields["to"] - int(translation.days_before * fleet.ticks_per_day))
    return Row(row.line, fields)


def _value(name: str, value: Any, unit: TimeUnit, translation: Translation) -> Any:
    if name in TIMES:
        return _ticks(value, unit, translation.time_format)
    if name == "v":
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return translation.verdicts.get(text, text) if name == "verdict" else text


def _ticks(value: Any, unit: TimeUnit, form: str | None) -> int:
    """A time in ticks; ValueError for what is none."""
    if isinstance(value, str):
        value = int(value) if form is None and value.lstrip("-").isdigit() else _moment(value, form)
    if isinstance(value, int | float):
        if value != int(value):
            raise ValueError(f"{value} is no whole number of ticks")
        return int(value)
    if unit == "cycles":
        raise ValueError(f"{value} is a date, and this fleet counts cycles")
    moment = value if isinstance(value, datetime.datetime) else datetime.datetime.combine(value, datetime.time())
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * (1_000 if unit == "ms" else 1))


def _moment(text: str, form: str | None) -> datetime.datetime:
    try:
        if form is None:
            return datetime.datetime.fromisoformat(text)
        return datetime.datetime.strptime(text, form)  # noqa: DTZ007  # without a zone it is UTC, above
    except ValueError:
        way = f"does not look like {form}" if form else "is no time; a mapping file says how it is written: time_format"
        raise ValueError(f"`{text}` {way}") from None
