"""The scanner gives what msgspec gives, to the bit, or leaves the message to it."""

from __future__ import annotations

import json
import random
from typing import Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anomaly import settings as toml
from anomaly.fleet import Fleet
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.scan_json import learn
from anomaly.telemetry.typed import Decoded, TypedDecoder

FLEET = toml.parse(
    '[fleet]\nname = "f"\nvehicle = "v"\ntime = "t"\ntime_unit = "ms"\n[signals.a]\n[signals.b]\n'
    '[context]\nregime = ["load"]\n',
    Fleet,
    "fleet.toml",
)
PLAIN = b'{"vehicle":"v1","ts":1760000000000,"signals":{"a":1.25,"b":-3,"load":null},"context":{"region":"eu"},"v":1}'


def message(rng: random.Random) -> bytes:
    """A reading as some producer would write it: spaces or none, gaps, unknown signals, odd numbers, with or without
    context."""
    pool = [
        "1",
        "-0",
        "-0.0",
        "0.1",
        "12345.678",
        "1e3",
        "-2.5E-3",
        "123456789012345",
        "0.1234567890123456789",
        "null",
        "-7.0",
    ]
    signals = ",".join(f'"{name}":{rng.choice(pool)}' for name in ("a", "b", "load", "odd") if rng.random() < 0.9)
    context = rng.choice([',"context":{"region":"eu"}', ',"context":{"region":"n\\u00e9","x":"y"}', ""])
    space = rng.choice(["", "", "", " "])
    text = f'{{"vehicle":{space}"v{rng.randrange(5)}","ts":{rng.choice(["17", "-5", "0", "1760000000000"])},'
    return f'{text}"signals":{{{signals}}}{context},"v":1}}'.encode()


def spoiled(rng: random.Random, value: bytes) -> bytes:
    """A message with a byte changed, taken out, or put in."""
    at = rng.randrange(len(value))
    put = bytes([rng.choice(b'"{}[]:,.0123456789-+eEnul\\ \x00\xff')])
    before, after = value[:at], value[at + 1 :]
    return rng.choice([before + put + after, before + after, before + put + value[at:]])


def typed_decoder(format: Literal["json", "msgpack"] = "json") -> TypedDecoder:
    """What the scanner has to agree with."""
    return TypedDecoder(FLEET.columns, FLEET.context_fields, format)


def told(decoded: Decoded) -> tuple[object, ...]:
    """All that a decode says, comparable to the bit."""
    batch = decoded.batch
    context = {name: list(column) for name, column in batch.context.items()}
    return (
        list(batch.vehicles),
        batch.ts.tobytes(),
        batch.values.tobytes(),
        context,
        batch.offsets.tobytes(),
        decoded[1:],
    )


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**9))
@example(seed=0)
def test_scanned_is_what_msgspec_decodes(seed: int) -> None:
    """Over calls in which templates are learned, plain, odd and broken messages end as if there were no scanner."""
    rng = random.Random(seed)
    decoder, typed = Decoder(FLEET), typed_decoder()
    for _ in range(4):
        values = [message(rng) for _ in range(rng.randrange(1, 12))]
        values = [spoiled(rng, value) if rng.random() < 0.3 else value for value in values]
        offsets = np.arange(len(values)) + 7
        assert told(decoder.decode(values, offsets)) == told(typed.decode(values, offsets))


@settings(deadline=None)
@given(value=st.floats(allow_nan=False, allow_infinity=False), places=st.integers(0, 12))
def test_numbers_are_parsed_to_the_bit(value: float, places: int) -> None:
    """Any decimal number gives the float that msgspec reads from the same text."""
    text = f"{value:.{places}f}" if abs(value) < 1e12 else repr(value)
    decoder = Decoder(FLEET)
    decoder.decode([PLAIN], np.zeros(1, np.int64))
    given_text = PLAIN.replace(b"1.25", text.encode())
    found, typed = (
        decoder.decode([given_text], np.zeros(1, np.int64)),
        typed_decoder().decode([given_text], np.zeros(1, int)),
    )
    assert found.batch.values.tobytes() == typed.batch.values.tobytes()


def test_a_stream_of_one_shape_is_scanned_and_not_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick way is really taken: the typed decode is not called for plain messages of a known shape."""
    decoder = Decoder(FLEET)
    monkeypatch.setattr(decoder._decoder.typed, "decode", lambda *_: pytest.fail("a plain message was left to msgspec"))
    decoded = decoder.decode([PLAIN.replace(b"-3", b"-0.00"), PLAIN.replace(b"v1", b"vehicle 22")], np.arange(2))
    assert list(decoded.batch.vehicles) == ["v1", "vehicle 22"]
    assert decoded.batch.context == {"region": ["eu", "eu"]}


@pytest.mark.parametrize(
    "value",
    [
        PLAIN.replace(b'"a":1.25', b'"a":1.25,"a":2'),
        PLAIN.replace(b'"v":1', b'"v":2'),
        PLAIN.replace(b"eu", b"{"),
        PLAIN.replace(b'"v1"', b'"\\u0041"'),
        b"[" + PLAIN + b"]",
        b"",
        json.dumps({"vehicle": "v", "signals": {"a": 1}}).encode(),
    ],
)
def test_what_is_not_plain_is_no_shape_to_learn(value: bytes) -> None:
    """Doubled keys, other versions, nesting, escapes, arrays and leftovers teach nothing."""
    assert learn(value, 0, FLEET.columns) is None


def test_a_context_that_ends_inside_a_string_is_no_plain_context() -> None:
    """A brace within a text cannot cut a context short."""
    decoder = Decoder(FLEET)
    decoder.decode([PLAIN], np.zeros(1, np.int64))
    tricky = PLAIN.replace(b'"eu"', b'"x},"')
    assert told(decoder.decode([tricky], np.zeros(1, np.int64))) == told(
        typed_decoder().decode([tricky], np.zeros(1, np.int64))
    )
