"""Kafka's own choice of partition."""

import pytest
from aiokafka.partitioner import murmur2 as theirs
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ingest.partition import murmur2, partition_of


# From the Java client's own test (org.apache.kafka.common.utils.UtilsTest.testMurmur2), as unsigned numbers.
@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_known_values(data, signed):
    assert murmur2(data) == signed & 0xFFFFFFFF


@given(st.binary(max_size=70))
def test_as_the_other_client_computes_it(data):
    assert murmur2(data) == theirs(data) & 0xFFFFFFFF


@given(st.binary(max_size=70), st.integers(1, 64))
def test_every_key_has_a_partition(data, partitions):
    assert partition_of(data, partitions) == (theirs(data) & 0x7FFFFFFF) % partitions
