"""Scanned is what msgspec decodes, in JSON and MessagePack, alone and in arrays; nothing is read beyond the bytes."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anomaly.errors import DataError
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.messages import Messages
from anomaly.telemetry.typed import TypedDecoder
from tests.telemetry.test_scan import FLEET, told

Scanned = Literal["json", "msgpack"]
SCANNED: list[Scanned] = ["json", "msgpack"]
NUMBERS = [
    0,
    -0.0,
    1.25,
    -3,
    1e-7,
    12345678.9,
    0.1 + 0.2,
    1e22,
    1e300,
    -1e-300,
    2**53 + 1,
    2**63,
    -(2**63),
    7e-46,
    3.5e38,
]
STRINGS = ["v1", "a much longer vehicle id", "é", 'q"', "x" * 200, "x" * 201, "", "{", "\n"]


def reading(rng: random.Random) -> dict[str, Any]:
    """A reading with gaps, unknown names, odd values, and now and then something that is wrong."""
    names = [name for name in ("a", "odd", "b", "load") if rng.random() < 0.8]
    signals = {
        name: rng.choice([None, rng.gauss(0, 50), round(rng.random(), 3), rng.choice(NUMBERS)]) for name in names
    }
    made: dict[str, Any] = {
        "vehicle": rng.choice(STRINGS) if rng.random() < 0.2 else f"v{rng.randrange(20)}",
        "ts": rng.choice([17, -5, 0, 10**15, -(2**62), 2**62 + 1, 2**63, 1.0])
        if rng.random() < 0.2
        else 1_760_000_000_000,
        "signals": signals,
    }
    if rng.random() < 0.7:
        made["context"] = rng.choice(
            [{"region": "eu", "x": "y"}, {"region": "é"}, {}, {"region": None}, {"region": 5}, None]
        )
    if rng.random() < 0.3:
        made |= {"more": rng.choice(["text", 5, 2.5, None, [1], True])}
    return made | ({"v": rng.choice([1, 1, 1, 2])} if rng.random() < 0.5 else {})


def message(rng: random.Random, format: Scanned) -> bytes:
    """One or several readings, in one of the ways that producers write them."""
    readings = [reading(rng) for _ in range(rng.choice([1, 1, 2, 20]))]
    items: Any = readings if len(readings) > 1 or rng.random() < 0.3 else readings[0]
    if format == "msgpack":
        return msgspec.msgpack.encode(items)
    return rng.choice([msgspec.json.encode(items), json.dumps(items).encode()])


def spoiled(rng: random.Random, value: bytes) -> bytes:
    """A message with a byte changed, taken out or put in, or its end cut off."""
    at = rng.randrange(len(value))
    put = bytes([rng.choice([*b'"{}[]:,.0123456789-+eEnul\\ ', 0, 255, 0x80, 0xC0, 0xCB, 0xD9, 0xDC])])
    before, after = value[:at], value[at + 1 :]
    return rng.choice([before + put + after, before + after, before + put + value[at:], before])


@pytest.mark.parametrize("format", SCANNED)
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**9))
@example(seed=0)
@example(seed=702)
def test_scanned_is_what_msgspec_decodes(format: Scanned, seed: int) -> None:
    """Over calls in which shapes are learned, plain, odd and broken messages end as if there were no scanner."""
    rng = random.Random(seed)
    decoder, typed = Decoder(FLEET, format), TypedDecoder(FLEET.columns, FLEET.context_fields, format)
    for _ in range(4):
        values = [message(rng, format) for _ in range(rng.randrange(1, 10))]
        values = [spoiled(rng, value) if rng.random() < 0.3 else value for value in values]
        offsets = np.arange(len(values)) + 7
        assert told(decoder.decode(values, offsets)) == told(typed.decode(values, offsets))


@settings(max_examples=300, deadline=None)
@given(digits=st.text("0123456789", min_size=1, max_size=20), point=st.integers(0, 20), power=st.integers(-30, 30))
@example(digits="775352454185485777", point=1, power=0)
@example(digits="702813935279846220", point=1, power=0)
def test_any_number_of_digits_and_any_exponent(digits: str, point: int, power: int) -> None:
    """A number gives the float32 of the float64 that is nearest to its text, however it is written."""
    whole, rest = digits[:point], digits[point:]
    text = (whole.lstrip("0") or "0") + (f".{rest}" if rest else "") + (f"e{power}" if power else "")
    plain = b'{"vehicle":"v","ts":1,"signals":{"a":1.5,"b":2}}'
    decoder = Decoder(FLEET)
    decoder.decode([plain], np.zeros(1, np.int64))
    found = decoder.decode([plain.replace(b"1.5", text.encode())], np.zeros(1, np.int64)).batch
    with np.errstate(over="ignore"):
        assert found.values[0, 0] == np.float32(float(text))


PLAIN = b'{"vehicle":"v1","ts":17,"signals":{"a":1.25,"b":-3},"context":{"region":"eu"}}'
TRICKY = [
    [PLAIN.replace(b"v1", rb"v\n1")],
    [PLAIN.replace(b"eu", rb"\u0041")],
    [PLAIN + b" x"],
    [PLAIN + b" \n"],
    [PLAIN + PLAIN],
    [b"[" + PLAIN + b"] ]"],
    [PLAIN[:30], PLAIN[30:], PLAIN],
    [PLAIN[:-1], b"}"],
]


@pytest.mark.parametrize("values", TRICKY)
def test_what_only_looks_plain_is_left_to_msgspec(values: list[bytes]) -> None:
    """Escapes, bytes behind a message, and messages that make sense only together, end as without a scanner."""
    decoder, typed = Decoder(FLEET), TypedDecoder(FLEET.columns, FLEET.context_fields, "json")
    decoder.decode([PLAIN], np.zeros(1, np.int64))
    offsets = np.arange(len(values))
    assert told(decoder.decode(values, offsets)) == told(typed.decode(values, offsets))


@pytest.mark.parametrize("format", SCANNED)
def test_arrays_and_gaps_are_scanned(format: Scanned, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of readings, and readings that leave signals out, are not left to msgspec; offsets are repeated."""
    decoder = Decoder(FLEET, format)
    monkeypatch.setattr(decoder._decoder.typed, "decode", lambda *_: pytest.fail("left to msgspec"))
    encode = msgspec.json.encode if format == "json" else msgspec.msgpack.encode
    full = {"vehicle": "v", "ts": 1, "signals": {"a": 1.5, "b": 2, "load": 3}}
    array = encode([full, full | {"signals": {"a": 1.5, "load": 3}}, full | {"signals": {"a": 4.0}}])
    decoder.decode([encode(full)], np.zeros(1, np.int64))
    batch = decoder.decode([array, encode(full)], np.array([8, 9])).batch
    assert batch.offsets.tolist() == [8, 8, 8, 9]
    nan = np.nan
    np.testing.assert_array_equal(batch.values[:3], [[1.5, 2, 3], [1.5, nan, 3], [4, nan, nan]])


def test_every_form_of_a_messagepack_number_is_read() -> None:
    """Integers of every width, float32 and float64 give what msgspec gives, to the bit."""
    forms = [
        b"\x05",
        b"\xe0",
        b"\xcc\xff",
        b"\xcd\xff\xfe",
        b"\xce\xff\xff\xff\xfe",
        b"\xcf" + b"\xff" * 8,
        b"\xd0\x80",
    ]
    forms += [b"\xd1\x80\x01", b"\xd2\x80\x00\x00\x01", b"\xd3\x80" + b"\x00" * 6 + b"\x01", b"\xc0"]
    forms += [b"\xca" + struct.pack(">f", 1.7), b"\xcb" + struct.pack(">d", 1.7), b"\xcb\x7f\xf0" + bytes(6)]
    plain = msgspec.msgpack.encode({"vehicle": "v", "ts": 1, "signals": {"a": 7, "b": 2}})
    values = [plain.replace(b"\xa1a\x07", b"\xa1a" + form) for form in forms]
    values += [plain.replace(b"\xa2ts\x01", b"\xa2ts" + form) for form in forms]
    typed = TypedDecoder(FLEET.columns, FLEET.context_fields, "msgpack")
    assert told(Decoder(FLEET, "msgpack").decode(values, np.arange(28))) == told(typed.decode(values, np.arange(28)))


@pytest.mark.parametrize("format", SCANNED)
def test_many_contexts_and_many_shapes_are_forgotten_again(format: Scanned) -> None:
    """More contexts and shapes than are kept at once are decoded all the same."""
    encode = msgspec.json.encode if format == "json" else msgspec.msgpack.encode
    decoder = Decoder(FLEET, format)
    for first in range(0, 24_000, 6_000):
        values = [
            encode({"vehicle": "v", "ts": n, "signals": {"a": n, f"z{n % 40}": 1}, "context": {"region": f"r{n}"}})
            for n in range(first, first + 6_000)
        ]
        batch = decoder.decode(values, np.arange(6_000)).batch
        assert list(batch.context["region"]) == [f"r{n}" for n in range(first, first + 6_000)]
        assert batch.ts.tolist() == list(range(first, first + 6_000))


def test_a_damaged_block_is_not_read() -> None:
    """Lengths that reach beyond the bytes of a block raise an error before a kernel sees them."""
    with pytest.raises(DataError, match="damaged"):
        Decoder(FLEET).decode(Messages.stored(np.array([500], "<u4").tobytes(), b"{}"), np.zeros(1, np.int64))


CORPUS = [
    b"", b" ", b"null", b"[]", b"[[]]", b"{", b"[" * 50_000, b'{"signals":' * 50_000, b"\xff\xfe", b'{"vehicle":"a"}',
    b'{"vehicle":"a","ts":1,"signals":{"a":NaN}}', b'{"vehicle":"a","ts":1,"signals":{"a":Infinity}}',
    b'{"vehicle":"a","ts":1,"signals":{"a":1e400}}', b'{"vehicle":"a","ts":1' + b"0" * 5_000 + b',"signals":{"a":1}}',
    b'{"vehicle":"a","ts":1,"signals":{"a":"1"}}', b'{"vehicle":"\xc3","ts":1,"signals":{"a":1}}',
    b'{"vehicle":"a","ts":1,"signals":{"a":1,"a":"x"}}', b'{"vehicle":"a","ts":1,"signals":{"a":' + b"1" * 10_000_000,
    b'[{"vehicle":"a","ts":1,"signals":{"a":1}},', b'[{"vehicle":"a","ts":1,"signals":{"a":1}}{}]',
]  # fmt: skip


def test_hostile_messages_fail_with_a_reason_and_their_neighbours_are_decoded() -> None:
    """Truncated, wrong, deep, huge, not a number, not UTF-8, doubled, ten megabytes, empty: one failure each."""
    plain = b'{"vehicle":"v","ts":1,"signals":{"a":1.5}}'
    decoder = Decoder(FLEET)
    for _ in range(3):
        values = [plain, *(value for bad in CORPUS for value in (bad, plain))]
        found = decoder.decode(values, np.arange(len(values)))
        assert [failure.position for failure in found.failures] == list(range(1, len(values), 2))
        assert all(failure.reason for failure in found.failures)
        assert found.batch.offsets.tolist() == list(range(0, len(values), 2))


GUARDED = """
import ctypes, mmap, random, sys
import msgspec, numpy as np
from anomaly.telemetry import shapes
from anomaly.telemetry.shapes import PADDING
from anomaly.telemetry.scan_{format} import learn, scan
from tests.telemetry.test_scan_formats import message, spoiled

libc = ctypes.CDLL(None, use_errno=True)
size = 64 * mmap.PAGESIZE
block = mmap.mmap(-1, size + mmap.PAGESIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(block))
assert libc.mprotect(ctypes.c_void_p(start + size), mmap.PAGESIZE, 0) == 0
rng = random.Random(7)
encode = msgspec.{format}.encode
def plain():
    signals = {"a": rng.choice([1.5, 123456789, 0.1 + 0.2]), "b": rng.choice([None, -3]), "load": 1e-7}
    return {"vehicle": f"v{rng.randrange(10**9)}", "ts": 1, "signals": signals, "context": {"region": "eu"}}
last = {name: plain()[name] for name in ("vehicle", "context", "ts", "signals")}
book = shapes.book([learn(encode(each), 0, ["a", "b", "load"]) for each in (plain(), last)], 3)
read = 0
for _ in range(5_000):
    item = rng.choice([plain(), last, [plain(), last, plain()]])
    value = encode(item) if rng.random() < 0.8 else message(rng, "{format}")
    value = (spoiled(rng, value) if rng.random() < 0.7 else value) + bytes(PADDING)
    block[size - len(value):size] = value
    buffer = np.frombuffer(block, np.uint8, len(value), size - len(value))
    buffer.flags.writeable = False
    out = shapes.room(1, len(value), 3)
    read += int(scan(buffer, np.array([0, len(value) - PADDING]), book, out))
print(read)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect by number is that of Linux")
@pytest.mark.parametrize("format", SCANNED)
def test_nothing_is_read_beyond_the_buffer(format: Scanned) -> None:
    """Whole and spoiled messages before a page that may not be read: the process lives, and reads readings."""
    program = GUARDED.replace("{format}", format)
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) > 500
