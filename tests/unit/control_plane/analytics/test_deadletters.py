import pytest

from control_plane.analytics.deadletters import Choice, DeadLetter
from tests.unit.control_plane.analytics.raw_kit import NOW_MS, Bench, batched, direct, reading


def letters():
    outputs = Bench().outputs(
        direct(b"nonsense"), batched([reading("other")]), direct({"ts": 1}, "nobody", received_ms=NOW_MS - 1_000)
    )
    return [DeadLetter(output.id, output.key, output.data) for output in outputs]


@pytest.mark.parametrize(
    ("choice", "keys"),
    [
        (Choice(), ["solo", "other", "nobody"]),
        (Choice(reason="malformed"), ["solo"]),
        (Choice(device="other"), ["other"]),
        (Choice(device="gw"), ["other"]),  # a gateway: all that came through it
        (Choice(device="nobody", reason="malformed"), []),
        (Choice(since_ms=NOW_MS), ["solo", "other"]),
        (Choice(since_ms=NOW_MS + 1), []),
    ],
)
def test_a_choice(choice, keys):
    assert [letter.key for letter in letters() if choice.holds(letter)] == keys


def test_one_by_its_id():
    first, *others = letters()
    choice = Choice(ce_id=first.ce_id)
    assert choice.holds(first)
    assert not any(map(choice.holds, others))
