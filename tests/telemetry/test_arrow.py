"""Arrow messages give the readings that JSON gives, and nothing in one can hurt."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.encode import encode_message, encode_readings

TABLE = {"name": "buses", "vehicle": "bus", "time": "time", "time_unit": "ms"}
PARTS = {"fleet": TABLE, "signals": {"a": {}, "b": {}}, "context": {"regime": ["gear"], "cohort": ["type"]}}
FLEET = msgspec.convert(PARTS | {"stream": {"format": "arrow"}}, Fleet)
GOOD: dict[str, Any] = {"vehicle": ["v1", "v2"], "ts": [5, 6], "a": [1.5, None], "b": pa.array([1, 2], pa.int8())}
HALF_NULL = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None]))


def message(columns: dict[str, Any], **options: Any) -> bytes:
    """Columns as an Arrow stream."""
    part = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(part)
    return sink.getvalue().to_pybytes()


def decode(*values: bytes) -> Any:
    """Messages decoded for the fleet."""
    return Decoder(FLEET).decode(values, np.arange(len(values)) + 40)


def told(batch: Batch) -> tuple[object, ...]:
    """All that a batch says, comparable to the bit."""
    context = {name: list(column) for name, column in batch.context.items()}
    return list(batch.vehicles), batch.ts.tobytes(), batch.values.tobytes(), context


def test_arrow_json_and_messagepack_say_the_same() -> None:
    """A batch written in each format, alone or packed, comes back with the same bytes."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(50, 3)).astype(np.float32) * 1e3
    values[rng.random((50, 3)) < 0.2] = np.nan
    values[0, 0] = np.inf
    context = {"type": [["x", "é", None][n % 3] for n in range(50)], "region": [None] * 50}
    batch = Batch.of([f"v{n % 7}é" for n in range(50)], np.arange(50), values, context, np.arange(50))
    results = []
    for format in ("json", "msgpack", "arrow"):
        fleet = msgspec.convert(PARTS | {"stream": {"format": format}}, Fleet)
        for messages in (encode_readings(batch, fleet), [encode_message(batch, fleet)]):
            decoded = Decoder(fleet).decode(messages, np.arange(len(messages)))
            assert (decoded.failures, decoded.unknown) == ([], Counter())
            results.append(told(decoded.batch))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vehicle": pa.array(["v1", "v2"], pa.large_string())},
        {"vehicle": pa.array(["v1", "v2"]).dictionary_encode()},
        {"vehicle": pa.array(["zz", "v1", "v2"])[1:], "ts": pa.array([9, 5, 6])[1:]},
        {"ts": pa.array([5, 6], pa.uint8()), "a": pa.array([1.5, None], pa.float16())},
        {"ts": pa.array([5_000_999, 6_000_000], pa.timestamp("ns"))},
        {"ts": pa.array([5, 6], pa.timestamp("ms", "Europe/Paris")), "v": pa.array([1, 1], pa.int8())},
        {"a": pa.array([1.5, None], pa.float32()), "gear": pa.nulls(2)},
        {"type": pa.array([None, None], pa.string()), "region": pa.nulls(2)},
    ],
)
@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"compression": "lz4"}])
def test_columns_may_have_any_fitting_type(changes: dict[str, Any], options: dict[str, Any]) -> None:
    """Text in any layout, whole numbers, timestamps, every kind of number, nulls, compressed or not."""
    found = decode(message(GOOD | changes, **options))
    assert found.failures == []
    assert list(found.batch.vehicles) == ["v1", "v2"]
    assert found.batch.ts.tolist() == [5, 6]
    assert found.batch.offsets.tolist() == [40, 40]
    np.testing.assert_array_equal(found.batch.values, [[1.5, 1, np.nan], [np.nan, 2, np.nan]])
    assert found.batch.context == {"type": [None, None], "region": [None, None]}


def test_context_and_unknown_names() -> None:
    """Context is kept, as text or in dictionary form; columns that nobody asked for are named."""
    types = pa.array(["x", None]).dictionary_encode()
    found = decode(
        message(GOOD | {"type": types, "region": ["eu", None], "speed": [1, 2]}), message(GOOD | {"x": [1, 2]})
    )
    assert found.batch.context["type"] == ["x", None, None, None]
    assert found.batch.context["region"] == ["eu", None, None, None]
    assert found.unknown == Counter({"speed": 1})
    assert found.batch.offsets.tolist() == [40, 40, 41, 41]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vehicle": None}, "missing column vehicle"),
        ({"ts": None}, "missing column ts"),
        ({"vehicle": [1, 2]}, "vehicle: expected text, got int64"),
        ({"vehicle": ["a", None]}, "vehicle: null in 1 rows"),
        ({"vehicle": HALF_NULL}, "vehicle: its dictionary has a null"),
        ({"vehicle": ["a", ""]}, "vehicle: is empty in row 1"),
        ({"vehicle": ["a", "x" * 201]}, "vehicle: has more than 200 characters in row 1"),
        ({"ts": [1.5, 2.5]}, "ts: expected whole numbers or timestamps, got double"),
        ({"ts": [1, None]}, "ts: null in 1 rows"),
        ({"ts": [1, 2**62 + 1]}, "ts: out of range"),
        ({"ts": pa.array([1, 2**63], pa.uint64())}, "no Arrow IPC stream: Integer value"),
        ({"a": ["hot", "cold"]}, "a: expected numbers, got string"),
        ({"a": [True, False]}, "a: expected numbers, got bool"),
        ({"type": [1, 2]}, "type: expected text, got int64"),
        ({"v": [1, 2]}, "version 2 is newer than this program reads (1)"),
        ({"v": [1, 0]}, "v: 0 is no version"),
        ({"v": [1, None]}, "v: null"),
    ],
)
def test_a_reason_says_what_is_wrong(changes: dict[str, Any], reason: str) -> None:
    """A message that cannot be used says why, and its neighbours are decoded."""
    columns = {name: column for name, column in (GOOD | changes).items() if column is not None}
    found = decode(message(GOOD), message(columns), message(GOOD))
    assert [failure.position for failure in found.failures] == [1]
    assert found.failures[0].reason.startswith(reason)
    assert found.batch.offsets.tolist() == [40, 40, 42, 42]


def test_what_is_no_stream_is_refused() -> None:
    """Empty messages, JSON, an Arrow file, a stream without rows, a bomb: each is a failure with a reason."""
    bomb = message(GOOD | {"padding": [bytes(100_000_000), b""]}, compression="zstd")
    assert len(bomb) < 1_000_000
    hostile = [
        b"",
        b'{"vehicle":"a"}',
        b"ARROW1\0\0" + message(GOOD),
        message({**GOOD, "vehicle": ["a"] * 2})[:200],
        bomb,
    ]
    found = decode(*hostile, message({name: pa.array(column)[:0] for name, column in GOOD.items()}))
    assert [failure.position for failure in found.failures] == list(range(6))
    assert "unpacked" in found.failures[4].reason
    assert found.failures[5].reason == "the message holds no reading"
    assert len(found.batch) == 0


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}])
def test_spoiled_messages_never_hurt(options: dict[str, Any]) -> None:
    """Streams with bytes changed or cut off are readings within bounds or failures, and the process lives."""
    rng = random.Random(4)
    extra = {"type": pa.array(["x", "y"]).dictionary_encode(), "v": pa.array([1, 1], pa.int8())}
    good = message(GOOD | extra, **options)
    for _ in range(1_500):
        value = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            value[rng.randrange(len(value))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        found = decode(bytes(value[: rng.choice([len(value), rng.randrange(len(value))])]))
        assert len(found.failures) + (len(found.batch) > 0) == 1
        assert all(len(name) <= 200 for name in found.batch.vehicles)
        assert all(len(list(column)) == len(found.batch) for column in found.batch.context.values())


def test_words_are_one_list_while_messages_say_the_same() -> None:
    """What comes after the decoder may know a list again; other words are another list, and null is None."""
    decoder = Decoder(FLEET)

    def types_of(*words: str | None) -> Any:
        column = pa.array(words, pa.string()).dictionary_encode()
        value = message(GOOD | {"type": column, "ts": [5, 6]})
        return decoder.decode([value], np.arange(1)).batch.context["type"]

    first, again, other = types_of("x", "y"), types_of("x", "y"), types_of("z", None)
    assert first.words is again.words
    assert (list(first), list(again), list(other)) == (["x", "y"], ["x", "y"], ["z", None])
    assert list(first) == ["x", "y"]
