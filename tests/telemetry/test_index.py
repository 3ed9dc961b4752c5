"""Numbers for strings: the same as a dict gives, through growth, removal and the way through bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.telemetry import index as indexing
from anomaly.telemetry.index import Index
from anomaly.telemetry.text import Text

NAMES = st.sampled_from([f"v{n}" * long for n in range(90) for long in (1, 9)]) | st.text(min_size=1, max_size=20)
STEPS = st.lists(st.tuples(st.booleans(), st.lists(NAMES, max_size=40)), max_size=20)


def follow(index: Index, steps: list[tuple[bool, list[str]]]) -> dict[str, int]:
    """Do the steps, number or remove names, on the index and on a dict, which must agree after each."""
    known: dict[str, int] = {}
    for removes, names in steps:
        if removes:
            gone = [name for name in dict.fromkeys(names) if name in known]
            index.remove(np.array([known.pop(name) for name in gone], np.int64))
        else:
            numbers, given = index.number(Text.of(names))
            found = numbers.tolist()
            assert given.tolist() == [number for number in dict.fromkeys(found) if number not in known.values()]
            new = {name: number for name, number in zip(names, found, strict=True) if name not in known}
            assert not set(new.values()) & set(known.values())
            assert len(set(new.values())) == len(new)
            known |= new
            assert found == [known[name] for name in names]
        order = sorted(known)
        numbers = np.array([known[name] for name in order], np.int64)
        assert index.find(Text.of(order)).tolist() == numbers.tolist()
        assert index.names(numbers).tolist() == order
        assert len(index) == len(known)
    return known


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_an_index_is_a_dict(steps: list[tuple[bool, list[str]]]) -> None:
    """However names come and go, short or long, each has one number, and no two have the same."""
    follow(Index(10_000), steps)


def test_the_table_grows_in_steps_and_loses_nothing() -> None:
    """With 60,000 strings, the old table taken over piece by piece, all are found at every moment."""
    index, names = Index(100_000), [f"VH-{n:07d}" for n in range(60_000)]
    for start in range(0, len(names), 500):
        index.number(Text.of(names[start : start + 500]))
        assert (index.find(Text.of(names[: start + 500 : 97])) >= 0).all()
    assert index.find(Text.of(names)).tolist() == list(range(60_000))


def test_long_strings_are_moved_together_when_there_is_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of removed long strings are used again, and those that are kept stay what they are."""
    monkeypatch.setattr(indexing, "LONG_BYTES", 2)
    index = Index(1_000)
    for turn in range(20):
        kept = [f"kept-{n}-{'x' * 40}" for n in range(10)]
        first, _ = index.number(Text.of([*kept, *(f"turn-{turn}-{n}-{'y' * 50}" for n in range(10))]))
        index.remove(first[10:])
    assert index.find(Text.of(kept)).tolist() == first[:10].tolist()
    assert index.names(first[:10]).tolist() == kept


def test_no_more_strings_than_there_is_room_for() -> None:
    """A full index refuses all new strings of a call, and goes on with those that it has."""
    index = Index(3)
    index.number(Text.of(["a", "b"]))
    with pytest.raises(OverflowError, match="4 strings, room is for 3"):
        index.number(Text.of(["c", "d"]))
    assert index.find(Text.of(["a", "b", "c"])).tolist() == [0, 1, -1]


def test_the_order_of_two_tables_is_secret() -> None:
    """Each index hashes with a seed of its own, so that nobody can prepare ids that collide."""
    text = Text.of([f"v{n}" for n in range(200)])
    tables = []
    for _ in range(2):
        index = Index(1_000)
        index.number(text)
        tables.append(index._arrays.table.tolist())
    assert tables[0] != tables[1]
