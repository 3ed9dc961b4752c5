"""Tests of the rule that gives a key its partition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from anomaly.stream.partitions import partition_of


@given(st.binary(max_size=64), st.integers(1, 10_000))
def test_keys_go_where_kafka_puts_them(key: bytes, partitions: int) -> None:
    """Every key gets the partition that Kafka's own default partitioner gives it."""
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


def test_vehicles_are_spread_evenly() -> None:
    """No partition has far more vehicles than its share."""
    homes = [partition_of(b"vehicle-%05d" % n, 8) for n in range(8_000)]
    assert max(homes.count(number) for number in range(8)) < 1_200
