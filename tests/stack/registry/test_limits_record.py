"""The record that tells of types' and the policy's limits, on a real Postgres."""

import pytest

from control_plane.db.connect import transaction
from control_plane.registry import limits_record
from shared.device import Limits
from shared.rates import RECORD_KEY, Defaults, decode_defaults

pytestmark = pytest.mark.stack


async def test_it_tells_what_types_and_the_policy_say_and_grows_in_version(parts):
    async with transaction(parts.database) as db:
        await limits_record.tell(db)
        await db.execute(
            "INSERT INTO device_types (name, limits) VALUES ('thermometer', $1), ('plain', NULL)",
            limits_record.stored(Limits(messages_per_s=2.0)),
        )
        await limits_record.tell(db)
        rows = await db.fetch("SELECT value FROM registry_outbox WHERE key = $1 ORDER BY seq", RECORD_KEY.decode())
    before, after = (decode_defaults(row["value"]) for row in rows)
    assert before == Defaults()
    assert after == Defaults(version=2, types={"thermometer": Limits(messages_per_s=2.0)})


@pytest.mark.parametrize(
    ("limits", "expected"),
    [(None, None), (Limits(), None), (Limits(bytes_per_s=5.0), '{"bytes_per_s": 5.0}')],
)
def test_limits_without_a_figure_are_none(limits, expected):
    assert limits_record.stored(limits) == expected
