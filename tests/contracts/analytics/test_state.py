"""What every `job.State` does: one suite for the one in memory, which tests use, and the one on RocksDB, which runs.

A job that was tested on the first must find the same under it in production.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.analytics.job import MemoryState
from control_plane.analytics.quix_job import _KeyState

Record = Callable[[], AbstractContextManager]
"""Opens the state for one record of a key; what was not discarded is kept at the end, unless the block raises."""


def in_memory(_: Path) -> Iterator[Callable[[bytes], Record]]:
    values: dict[bytes, dict[bytes, bytes]] = {}

    def of_key(key: bytes) -> Record:
        @contextmanager
        def record():
            state = MemoryState(values.setdefault(key, {}))
            try:
                yield state
            except BaseException:
                state.discard()
                raise
            state.keep()

        return record

    yield of_key


def on_rocksdb(directory: Path) -> Iterator[Callable[[bytes], Record]]:
    from quixstreams.state.rocksdb import RocksDBStorePartition  # after quix_job, which hushes what it imports

    partition = RocksDBStorePartition(str(directory / "store"))

    def of_key(key: bytes) -> Record:
        @contextmanager
        def record():
            with partition.begin() as transaction:
                state = _KeyState(transaction.as_state(prefix=key))
                yield state
                state.keep()

        return record

    yield of_key
    partition.close()


@pytest.fixture(params=[in_memory, on_rocksdb])
def of_key(request, tmp_path):
    yield from request.param(tmp_path)


@pytest.fixture
def record(of_key):
    return of_key(b"device")


def test_what_was_never_set_is_none(record):
    with record() as state:
        assert state.get(b"a") is None
        state.delete(b"a")
        assert state.get(b"a") is None


def test_what_is_set_is_there_at_once_and_for_the_next_record(record):
    with record() as state:
        state.set(b"a", b"1")
        assert state.get(b"a") == b"1"
    with record() as state:
        assert state.get(b"a") == b"1"


def test_what_is_deleted_is_gone_at_once_and_for_the_next_record(record):
    with record() as state:
        state.set(b"a", b"1")
    with record() as state:
        state.delete(b"a")
        assert state.get(b"a") is None
    with record() as state:
        assert state.get(b"a") is None


def test_discarding_goes_back_to_the_record_before(record):
    with record() as state:
        state.set(b"a", b"1")
        state.set(b"b", b"1")
    with record() as state:
        state.set(b"a", b"2")
        state.set(b"a", b"3")
        state.delete(b"b")
        state.set(b"c", b"1")
        state.discard()
        assert [state.get(name) for name in (b"a", b"b", b"c")] == [b"1", b"1", None]
        state.set(b"d", b"1")
    with record() as state:
        assert [state.get(name) for name in (b"a", b"b", b"c", b"d")] == [b"1", b"1", None, b"1"]


def test_nothing_of_a_record_is_kept_if_the_job_raises(record):
    with record() as state:
        state.set(b"a", b"1")
    with pytest.raises(RuntimeError), record() as state:  # noqa: PT012 - the block is the record
        state.set(b"a", b"2")
        raise RuntimeError
    with record() as state:
        assert state.get(b"a") == b"1"


def test_keys_are_apart(of_key):
    for key in (b"one", b"two"):
        with of_key(key)() as state:
            assert state.get(b"a") is None
            state.set(b"a", key)
    with of_key(b"one")() as state:
        assert state.get(b"a") == b"one"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(max_size=64) | st.sampled_from([b"", b"\0" * 12, b"EXPIRE", b"\xff" * 9]))
def test_any_bytes_come_back_as_they_were(record, value):
    with record() as state:
        state.set(b"a", value)
    with record() as state:
        assert state.get(b"a") == value
