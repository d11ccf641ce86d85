"""What types and the policy say of limits, told to Kafka as one small record of the registry topic.

So a change of a type's limits is one record, however many devices are of the type. Call `tell` in the transaction of
the change.
"""

import json
from importlib.resources import files

import msgspec

from control_plane.db import queries
from control_plane.db.connect import Connection
from control_plane.registry.limits_policy import LimitsPolicy
from shared.device import Limits
from shared.rates import RECORD_KEY, RECORD_TYPE, Defaults, encode_defaults
from shared.topics import Kafka

_SQL = queries.parse((files(__package__) / "limits_record.sql").read_text(encoding="utf-8"))
_TYPES = msgspec.json.Decoder(dict[str, Limits])


async def tell(db: Connection) -> None:
    """Types or the policy `limits` were changed: into the outbox with what they say now."""
    await db.execute(_SQL["take_turn"])  # two changes at once would each miss the other's
    row = await db.fetchrow(_SQL["read"])
    assert row is not None
    policy = msgspec.json.decode(row["policy"], type=LimitsPolicy) if row["policy"] else LimitsPolicy()
    types = _TYPES.decode(row["types"])
    told = Defaults(version=row["version"], device=policy.device, gateway=policy.gateway, types=types)
    key = RECORD_KEY.decode()
    await db.execute(
        _SQL["insert"], Kafka.REGISTRY.value, key, encode_defaults(told), f"{key}:{told.version}", RECORD_TYPE
    )


def stored(limits: Limits | None) -> str | None:
    """What goes into a column `limits`: JSON of the figures that are named, or NULL for none."""
    found = {} if limits is None else {name: value for name, value in msgspec.to_builtins(limits).items() if value}
    return json.dumps(found) if found else None
