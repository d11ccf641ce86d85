"""When the hub restarts its broker by itself."""

import pytest

from control_plane.registry.broker_policy import BrokerPolicy, Restart, restart_wanted


@pytest.mark.parametrize(
    ("restart", "desired", "missing", "since_last_s", "wanted"),
    [
        (Restart.NEVER, 100, 100, None, False),
        (Restart.WHEN_EMPTY, 100, 0, None, False),
        (Restart.WHEN_EMPTY, 100, 100, None, True),
        (Restart.WHEN_EMPTY, 1, 1, None, True),
        (Restart.WHEN_EMPTY, 100, 51, None, True),
        (Restart.WHEN_EMPTY, 100, 50, None, False),
        (Restart.WHEN_EMPTY, 100, 100, 3_599.0, False),
        (Restart.WHEN_EMPTY, 100, 100, 3_600.0, True),
        (Restart.WHEN_MISSING, 100, 1, None, True),
        (Restart.WHEN_MISSING, 100, 0, None, False),
        (Restart.WHEN_MISSING, 100, 1, 10.0, False),
        (Restart.WHEN_EMPTY, 0, 0, None, False),
    ],
)
def test_by_what_is_missing_and_when_it_did_last(
    restart: Restart, desired: int, missing: int, since_last_s: float | None, wanted: bool
) -> None:
    policy = BrokerPolicy(restart=restart)
    assert restart_wanted(policy, desired=desired, missing=missing, since_last_s=since_last_s) is wanted


def test_values_have_bounds_and_names() -> None:
    assert BrokerPolicy().problems() == []
    assert [error.pointer for error in BrokerPolicy(announce_s=-1, at_most_every_s=1).problems()] == [
        "/announce_s",
        "/at_most_every_s",
    ]
    assert isinstance(BrokerPolicy.read(b'{"restart": "never"}'), BrokerPolicy)
    for document in (b'{"restart": "sometimes"}', b'{"announce": 1}', b'{"announce_s": null}'):
        assert isinstance(BrokerPolicy.read(document), list)
