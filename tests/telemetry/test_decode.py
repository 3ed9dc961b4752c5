"""Tests of decoding: every message ends once, as readings or as a failure."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode import Decoder, Format
from anomaly.telemetry.decode_records import decode_events, decode_labels
from anomaly.telemetry.encode import encode_readings


def fleet_of(*names: str, **tables: Any) -> Fleet:
    """A fleet with these signals."""
    table = {"name": "buses", "vehicle": "bus", "time": "time", "time_unit": "ms"}
    return msgspec.convert({"fleet": table, "signals": {name: {} for name in names}, **tables}, Fleet)


FLEET = fleet_of("coolant_c", "oil.pressure kPa", context={"regime": ["gear"], "cohort": ["type"]})


def message(**changes: Any) -> dict[str, Any]:
    """A good reading, changed."""
    return {"vehicle": "a", "ts": 5, "signals": {"coolant_c": 1.5}} | changes


def refusals(*values: bytes, format: Format = "json") -> list[tuple[int, str]]:
    """Positions and reasons of the messages that fail."""
    return [tuple(failure) for failure in Decoder(FLEET, format).decode(values, np.arange(len(values))).failures]


def encoded(*items: Any, format: Format = "json") -> list[bytes]:
    """Items as messages."""
    encode = msgspec.json.encode if format == "json" else msgspec.msgpack.encode
    return [encode(item) for item in items]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_readings_become_columns(format: Format) -> None:
    """A reading alone and readings in an array end in one batch, in order, with their message's offset."""
    second = message(vehicle="b", signals={"oil.pressure kPa": 3, "gear": None}, context={"type": "x", "z": "y"})
    values = encoded(message(), [second, message(ts=6, signals={"gear": 2})], format=format)
    batch, failures, unknown = Decoder(FLEET, format).decode(values, np.array([40, 41]))
    assert failures == []
    assert unknown == Counter()
    assert list(batch.vehicles) == ["a", "b", "a"]
    assert batch.ts.tolist() == [5, 5, 6]
    assert batch.offsets.tolist() == [40, 41, 41]
    assert batch.values.dtype == np.float32
    nan = np.nan
    np.testing.assert_array_equal(batch.values, [[1.5, nan, nan], [nan, 3, nan], [nan, nan, 2]])
    assert batch.context == {"type": [None, "x", None], "region": [None, None, None]}


def test_a_bad_message_leaves_its_neighbours_alone() -> None:
    """The readings around a bad message are decoded, in order, with their own offsets."""
    values = [*encoded(message(vehicle="a")), b"{nonsense", *encoded(message(vehicle="c"))]
    batch, failures, _ = Decoder(FLEET).decode(values, np.array([7, 8, 9]))
    assert list(batch.vehicles) == ["a", "c"]
    assert batch.offsets.tolist() == [7, 9]
    assert [failure.position for failure in failures] == [1]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (message(signals={"coolant_c": "hot"}), "signals.coolant_c: expected float | null, got str"),
        (message(signals={"coolant_c": True}), "signals.coolant_c: expected float | null, got bool"),
        (message(ts=2**62 + 1), f"ts: expected int <= {2**62}"),
        (message(ts=-(2**62) - 1), f"ts: expected int >= {-(2**62)}"),
        (message(ts=1.5), "ts: expected int, got float"),
        (message(vehicle=""), "vehicle: expected str of length >= 1"),
        (message(vehicle="x" * 201), "vehicle: expected str of length <= 200"),
        (message(vehicle=7), "vehicle: expected str, got int"),
        (message(context={"region": 3}), "context.region: expected str | null, got int"),
        ({"vehicle": "a", "ts": 1}, "missing field signals"),
        (message(v=2), "version 2 is newer than this program reads (1)"),
        ({"v": 3, "wholly": "different"}, "version 3 is newer than this program reads (1)"),
        (message(v=0), "v: expected int >= 1"),
        ([message(), message(ts="x")], "reading 1 of the array: ts: expected int, got str"),
        ([message(), message(v=2)], "version 2 is newer than this program reads (1)"),
        ([], "the array holds no reading"),
        (7, "expected object or array, got int"),
    ],
)
def test_a_reason_says_what_is_wrong(item: Any, reason: str) -> None:
    """A refused message says where, what was expected and what was there, in words without jargon."""
    for format in ("json", "msgpack"):
        assert refusals(*encoded(item, format=format), format=format)[0][1].startswith(reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "input data was truncated"),
        (b'{"vehicle":"\xff","ts":1,"signals":{}}', "text that is not valid UTF-8"),
        (b'{"vehicle":"\\ud800","ts":1,"signals":{}}', "JSON is malformed"),
        (b'{"vehicle":"a","ts":1,"signals":{"coolant_c":NaN}}', "JSON is malformed"),
        (b'{"vehicle":"a","ts":1,"signals":{"coolant_c":1e999}}', "signals.coolant_c: number out of range"),
        (b'{"x":' * 100_000, "nested too deeply"),
        (b"[" * 100_000, "reading 0 of the array: expected object, got array"),
        (b'{"vehicle":"a","ts":1,"signals":{}}{}', "JSON is malformed"),
    ],
)
def test_hostile_bytes_are_refused_with_a_reason(value: bytes, reason: str) -> None:
    """Broken text, numbers and nesting are failures, not crashes."""
    assert refusals(value)[0][1].startswith(reason)


def test_what_float32_cannot_hold_becomes_infinite() -> None:
    """A number of float64 only is kept as infinite, for the quality gate to mask; the last of two keys counts."""
    value = b'{"vehicle":"a","ts":1,"ts":2,"signals":{"coolant_c":1e39,"gear":-1e300}}'
    batch = Decoder(FLEET).decode([value], np.array([0])).batch
    assert batch.ts.tolist() == [2]
    assert batch.values[0, 0] == np.inf
    assert batch.values[0, 2] == -np.inf


def test_a_message_of_ten_megabytes_is_decoded() -> None:
    """Size alone is no reason to refuse a message."""
    values = encoded([message(ts=i, note="x" * 1_000) for i in range(10_000)])
    assert len(values[0]) > 10_000_000
    assert len(Decoder(FLEET).decode(values, np.array([3])).batch) == 10_000


def test_unknown_names_are_counted() -> None:
    """Fields and signals that the fleet does not know are named, those of the first good message of a call."""
    values = [b"x", *encoded(message(speed=1, signals={"rpm": 1, "gear": 2}), message(other=1))]
    assert Decoder(FLEET).decode(values, np.arange(3)).unknown == Counter({"speed": 1, "signals.rpm": 1})


def test_unknown_names_cost_bounded_memory() -> None:
    """A hostile message with very many unknown names does not grow the count without bound."""
    values = encoded(message(**{f"{i}" * 300: 1 for i in range(500)}))
    unknown = Decoder(FLEET).decode(values, np.array([0])).unknown
    assert len(unknown) <= 100
    assert max(map(len, unknown)) <= 200


def test_an_unknown_field_that_cannot_be_read_does_no_harm() -> None:
    """What the fleet does not ask for may hold anything that the typed decode skips."""
    value = b'{"vehicle":"a","ts":1,"signals":{},"x":"\xff","y":1e999}'
    decoded = Decoder(FLEET).decode([value], np.array([0]))
    assert len(decoded.batch) + len(decoded.failures) == 1


def test_no_messages_make_an_empty_batch() -> None:
    """An empty call gives an empty batch of the right width."""
    batch = Decoder(FLEET).decode([], np.array([], np.int64)).batch
    assert batch.values.shape == (0, 3)
    assert len(batch) == 0


def test_one_signal_is_enough() -> None:
    """A fleet of a single signal decodes like any other."""
    batch = Decoder(fleet_of("x")).decode(encoded(message(signals={"x": 4})), np.array([0])).batch
    assert batch.values.tolist() == [[4.0]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SIGNALS = st.dictionaries(st.sampled_from(["coolant_c", "gear", "rpm"]), JSON, max_size=3)
READING = st.fixed_dictionaries(
    {"vehicle": st.text(max_size=3) | JSON, "ts": st.integers() | JSON, "signals": SIGNALS | JSON},
    optional={"v": st.integers(0, 3), "context": JSON, "more": JSON},
)
GOOD = st.fixed_dictionaries(
    {
        "vehicle": st.text(min_size=1, max_size=3),
        "ts": st.integers(-(2**62), 2**62),
        "signals": st.just({"gear": 1}),
    }
)
ITEM = READING | GOOD | st.lists(READING | GOOD, max_size=3) | st.lists(GOOD, min_size=1, max_size=3) | JSON


@st.composite
def cut(draw: st.DrawFn, values: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that may have been cut or changed on the way."""
    value = draw(values)
    place = draw(st.integers(0, len(value)))
    return draw(st.sampled_from([value, value[:place], value[:place] + b"\xed" + value[place:]]))


@pytest.mark.parametrize("format", ["json", "msgpack"])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_every_message_ends_exactly_once(format: Format, data: st.DataObject) -> None:
    """Whatever bytes come, each message is its readings or one failure with a reason, in order."""
    texts = ITEM.map(lambda item: json.dumps(item).encode())
    packed = ITEM.filter(_packable).map(msgspec.msgpack.encode)
    values = data.draw(st.lists(cut(texts if format == "json" else packed) | st.binary(max_size=30), max_size=6))
    batch, failures, _ = Decoder(FLEET, format).decode(values, np.arange(len(values)))
    failed = [failure.position for failure in failures]
    assert sorted({*failed, *batch.offsets.tolist()}) == list(range(len(values)))
    assert not {*failed} & {*batch.offsets.tolist()}
    assert batch.offsets.tolist() == sorted(batch.offsets)
    assert all(failure.reason for failure in failures)
    assert all(len(column) == len(batch) for column in (batch.vehicles, batch.ts, batch.values))
    for vehicle in batch.vehicles:
        assert 1 <= len(vehicle.encode()) <= 800


def _packable(item: Any) -> bool:
    try:
        msgspec.msgpack.encode(item)
    except (OverflowError, UnicodeEncodeError):
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=5),
            st.integers(-(2**62), 2**62),
            st.lists(st.floats(width=32, allow_infinity=False), min_size=3, max_size=3),
            st.none() | st.text(max_size=3),
        ),
        max_size=5,
    )
)
def test_encoding_is_the_inverse_of_decoding(rows: list[tuple[str, int, list[float], str | None]]) -> None:
    """What was encoded comes back bit for bit; what is missing stays missing."""
    values = np.array([row[2] for row in rows], np.float32).reshape(len(rows), 3)
    context = {"type": [row[3] for row in rows], "region": [None] * len(rows)}
    ts = np.array([row[1] for row in rows], np.int64)
    batch = Batch.of([row[0] for row in rows], ts, values, context, np.arange(len(rows)))
    back, failures, unknown = Decoder(FLEET).decode(encode_readings(batch, FLEET), batch.offsets)
    assert (failures, unknown) == ([], Counter())
    assert list(back.vehicles) == list(batch.vehicles)
    np.testing.assert_array_equal(back.ts, ts)
    np.testing.assert_array_equal(back.values, values)
    assert back.context == context


def test_encoded_numbers_are_short_and_gaps_are_left_out() -> None:
    """A float32 is written with the digits it needs; missing and infinite signals are not written at all."""
    values = np.array([[0.1, np.nan, np.inf]], np.float32)
    batch = Batch.of(["a"], np.array([1]), values, {"type": ["x"], "region": [None]}, np.array([0]))
    expected = b'{"vehicle":"a","ts":1,"signals":{"coolant_c":0.1},"context":{"type":"x"}}'
    assert encode_readings(batch, FLEET) == [expected]


def test_events_are_decoded_or_refused() -> None:
    """Good events come in order; a bad one says why."""
    good = {"id": "1", "vehicle": "a", "ts": 3, "kind": "service", "new_field": [1]}
    bad = [
        good | {"kind": "party"},
        good | {"id": ""},
        good | {"until": 2},
        good | {"kind": "undo"},
        good | {"ts": 2**62 + 1},
        good | {"v": 2},
        good | {"vehicle": ""},
    ]
    records, failures = decode_events(encoded(good, *bad, good | {"id": "2"}))
    assert [record.id for record in records] == ["1", "2"]
    assert [failure.position for failure in failures] == [1, 2, 3, 4, 5, 6, 7]
    words = ["kind: ", "id: is empty", "until: 2 lies before ts 3", "undoes: missing", "ts: ", "version 2", "vehicle"]
    for failure, start in zip(failures, words, strict=True):
        assert failure.reason.startswith(start)


def test_labels_are_decoded_or_refused() -> None:
    """A label with `from` after `to` is refused; one of a single instant is good."""
    good = {"vehicle": "a", "from": 3, "to": 3, "verdict": "fault", "source": "workshop"}
    values = [*encoded(good, good | {"from": 4}, good | {"v": 9}, good | {"verdict": "perhaps"}), b"\xff"]
    records, failures = decode_labels(values)
    assert [(record.start, record.end) for record in records] == [(3, 3)]
    assert [failure.position for failure in failures] == [1, 2, 3, 4]
    assert failures[0].reason == "from: 4 lies after to 3"
    assert failures[1].reason == "version 9 is newer than this program reads (1)"
