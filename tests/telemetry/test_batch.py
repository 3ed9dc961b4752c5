"""Tests of the one shape that readings have."""

from __future__ import annotations

import numpy as np

from anomaly.telemetry.batch import Batch


def test_a_part_of_a_batch_is_a_batch() -> None:
    """Rows are cut out of every column alike, and a batch is as long as its columns."""
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    batch = Batch.of(["a", "b", "c"], np.array([1, 2, 3]), values, {"region": ["x", None, "z"]}, np.array([7, 8, 9]))
    part = batch.rows(1, 3)
    assert (len(batch), len(part), len(batch.rows(2, 2))) == (3, 2, 0)
    assert (list(part.vehicles), part.ts.tolist(), part.offsets.tolist()) == (["b", "c"], [2, 3], [8, 9])
    assert part.context == {"region": [None, "z"]}
    np.testing.assert_array_equal(part.values, values[1:])
