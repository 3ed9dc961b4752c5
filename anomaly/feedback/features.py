"""The features that live decisions were made from: a log beside the decisions, for the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.outcome import Outcome
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.text import Coded, Text


@cache
def schema() -> Any:
    """The pyarrow schema: who and when, the frame that says what the features mean, and where the reading came from."""
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        {
            "vehicle": pa.string(),
            "ts": pa.int64(),
            "features": pa.list_(pa.float32()),
            "frame": word,
            "region": word,
            "partition": pa.int32(),
            "offset": pa.int64(),
        }
    )


class Logged(NamedTuple):
    """The features of m kept decisions: `values` float32[m, width], as the model was given them."""

    vehicles: Text
    region: Coded
    ts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    values: NDArray[np.float32]


def logged(outcome: Outcome, batch: Batch, rows: NDArray[np.int64]) -> Logged:
    """The features of the decisions at `rows`, positions among the decisions of `batch`."""
    place = outcome.decisions.row[rows]
    region = batch.context.get("region") or Coded.nothing(len(batch))
    values = np.zeros((len(place), 0), np.float32) if outcome.features is None else outcome.features[place]
    return Logged(
        batch.vehicles.take(place).spelled(), region.take(place), batch.ts[place], batch.offsets[place], values
    )


def joined(parts: Sequence[Logged]) -> Logged:
    """All rows of `parts`, one after the other."""
    return Logged(
        Text.concatenated([part.vehicles for part in parts]),
        Coded.concatenated([part.region for part in parts]),
        np.concatenate([part.ts for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def feature_table(rows: Logged, frame: str, partition: int) -> Any:
    """A table of `schema()` in the order of the rows; `frame` is the digest of the frame."""
    import pyarrow as pa

    count, width = rows.values.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(width))
    arrays = [
        rows.vehicles.arrow(),
        pa.array(rows.ts),
        pa.ListArray.from_arrays(offsets, pa.array(rows.values.ravel())),
        pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([frame], pa.string())),
        rows.region.arrow(),
        pa.array(np.full(count, partition, np.int32)),
        pa.array(rows.offsets),
    ]
    return pa.Table.from_arrays(
        [array.cast(field.type) for array, field in zip(arrays, schema(), strict=True)], schema=schema()
    )
