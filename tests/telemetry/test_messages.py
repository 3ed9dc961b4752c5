"""Messages in one buffer behave as a list of bytes."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomaly.telemetry.messages import Messages

VALUES = st.lists(st.binary(max_size=6), max_size=12)


@given(values=VALUES, more=VALUES, start=st.integers(-3, 14), stop=st.integers(-3, 14))
def test_messages_are_a_list_of_bytes(values: list[bytes], more: list[bytes], start: int, stop: int) -> None:
    """Length, items, slices and concatenation are those of the list, and a slice of a slice too."""
    messages = Messages.of(values)
    assert (len(messages), list(messages), bool(messages)) == (len(values), values, bool(values))
    assert messages[start:stop] == values[start:stop]
    assert messages[1:][start:stop] == values[1:][start:stop]
    assert Messages.concatenated([messages[start:stop], Messages.of(more)]) == values[start:stop] + more


@given(values=VALUES, start=st.integers(0, 12))
def test_a_padded_slice_holds_its_own_bytes_only(values: list[bytes], start: int) -> None:
    """What a scanner may read are the messages asked for, then zeros, whatever was put behind them before."""
    for padding in (0, 3, 4, 5):
        buffer, edge = Messages.of(values, padding)[start:].padded(4)
        found = [buffer[a:b].tobytes() for a, b in itertools.pairwise(edge)]
        assert found == values[start:]
        assert buffer[edge[-1] :].tolist() == [0] * 4


def test_stored_messages_are_split_by_their_lengths() -> None:
    """What the log keeps of a block, lengths and bytes, gives the messages back."""
    lengths = np.array([2, 0, 1], "<u4").tobytes()
    assert Messages.stored(lengths, b"abc") == [b"ab", b"", b"c"]
