"""Columns of strings: their bytes, checksums and numbers are those of the plain way."""

from __future__ import annotations

import zlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.telemetry.text import Coded, Text, checksum, pack, spread, uniform

WORDS = st.lists(st.text(max_size=40), min_size=1, max_size=30)


@settings(deadline=None)
@given(WORDS, st.randoms(use_true_random=False))
def test_strings_keep_their_bytes_and_checksums_wherever_they_lie(words: list[str], chance: object) -> None:
    """Taken in any order and spelled again, each is the same string; its checksum is zlib's."""
    rows = np.array(chance.choices(range(len(words)), k=50), np.int64)  # type: ignore[attr-defined]
    text = Text.of(words).take(rows)
    spelled = text.spelled()
    assert spelled.tolist() == text.tolist() == [words[row] for row in rows]
    assert len(spelled.buffer) == sum(len(words[row].encode()) for row in rows)
    assert text.arrow().to_pylist() == text.tolist()
    assert text.crc32().tolist() == [zlib.crc32(words[row].encode()) for row in rows]


def test_the_compiled_copy_and_checksum_are_those_of_plain_python() -> None:
    """8 bytes at a time or not, up to the last byte of the buffer."""
    text = Text.of(["", "a" * 7, "b" * 8, "c" * 9, "d" * 23])
    data, edge = text.packed()
    plain = np.zeros(len(data) + 8, np.uint8)
    pack.py_func(text.buffer, text.start, edge, plain)  # type: ignore[attr-defined]
    assert plain[: len(data)].tobytes() == data.tobytes() == text.buffer.tobytes()
    table = checksum.py_func.__globals__["_CRC_TABLES"]  # type: ignore[attr-defined]
    sums = np.zeros(len(text), np.uint64)
    checksum.py_func(text.buffer, text.start, text.stop, table, sums)  # type: ignore[attr-defined]
    assert sums.tolist() == text.crc32().tolist()


def test_a_uniform_number_is_splitmix64_of_string_and_time() -> None:
    """It depends on the string, the time and the purpose, as plain Python says, and fills [0, 1)."""
    hashes, when = Text.of([f"v{i}" for i in range(2_000)]).crc32(), np.arange(-1_000, 1_000)
    first = uniform(hashes, when, 1)
    plain = np.zeros(len(when))
    with np.errstate(over="ignore"):
        spread.py_func(hashes, when, np.uint64(1 << 32), plain)  # type: ignore[attr-defined]
    assert first.tolist() == plain.tolist()
    assert (first != uniform(hashes, when, 2)).all()
    assert (first != uniform(hashes, when + 1, 1)).all()
    assert np.histogram(first, 10, (0, 1))[0].min() > 140


@settings(deadline=None)
@given(st.lists(st.none() | st.sampled_from([f"w{i}" for i in range(100)]), max_size=80), st.integers(0, 100))
def test_words_become_a_dictionary_without_repeats(values: list[str | None], unused: int) -> None:
    """Whether there are few words or many, used or not, twice or once: the values are the same, null for None."""
    coded = Coded.of([*values, *(f"x{i}" for i in range(unused))])[: len(values)]
    twice = Coded(np.concatenate([coded.codes, coded.codes + len(coded.words)]), [*coded.words, *coded.words])
    for each, wanted in ((coded, values), (twice, values * 2)):
        array = each.arrow()
        assert array.to_pylist() == wanted
        assert len(set(array.dictionary.to_pylist())) == len(array.dictionary)
