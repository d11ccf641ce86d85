"""Policies by REST on real servers: read, replaced once, audited; the one about limits is told to Kafka."""

import asyncio
import json

import pytest

from control_plane.db.connect import acquire, transaction
from control_plane.registry import policies
from control_plane.registry.limits_policy import LimitsPolicy
from control_plane.registry.quarantine.rules import QuarantinePolicy
from shared.authority import Actor, Role
from shared.errors import Permanent
from shared.rates import RECORD_KEY, RECORD_TYPE, decode_defaults
from shared.topics import Kafka
from tests.stack.registry.conftest import read_records, until

pytestmark = pytest.mark.stack


def test_a_policy_is_replaced_by_whoever_saw_its_last_version(api):
    shown = api.rest.get("/v1/policies/limits")
    assert (shown.headers["etag"], shown.json()["version"]) == ('"0"', 0)
    value = shown.json()["value"]
    value["device"]["messages_per_s"] = 7.5
    assert api.rest.put("/v1/policies/limits", json=value).status_code == 428
    done = api.rest.put("/v1/policies/limits", json=value, headers={"If-Match": '"0"'})
    assert (done.status_code, done.json()["version"], done.json()["value"]) == (200, 1, value)
    again = api.rest.put("/v1/policies/limits", json=value, headers={"If-Match": '"0"'})
    assert (again.status_code, again.json()["type"]) == (412, "/problems/changed")
    assert api.rest.put("/v1/policies/limits", json=value, headers={"If-Match": "W/x"}).status_code == 412
    assert api.rest.get("/v1/policies/limits").json()["value"] == value
    names = [item["name"] for item in api.rest.get("/v1/policies").json()["policies"]]
    assert names == sorted(policies.POLICIES)
    told = until(lambda: _told(api), "the limits are told to Kafka")
    assert told[-1].device.messages_per_s == 7.5


def _told(api):
    records = asyncio.run(read_records(api.env["HUB_KAFKA_BOOTSTRAP"], Kafka.REGISTRY, RECORD_KEY.decode()))
    assert {dict(record.headers)["ce_type"] for record in records} <= {RECORD_TYPE.encode()}
    found = [decode_defaults(record.value) for record in records]
    return [defaults for defaults in found if defaults.device.messages_per_s == 7.5]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"device": {"messages_per_s": 0, "bytes_per_s": 1, "readings_per_s": 1}}, "/device/messages_per_s"),
        ({"device": 3}, "/device"),
        ({"dewice": {}}, ""),
    ],
)
def test_what_is_no_policy_is_refused_with_its_place(api, body, pointer):
    refused = api.rest.put("/v1/policies/limits", json=body, headers={"If-Match": '"0"'})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert api.rest.get("/v1/policies/unheard-of").status_code == 404


async def test_everybody_reads_it_by_its_type(parts):
    actor = Actor("t-admin", Role.ADMIN)
    async with transaction(parts.database) as db:
        assert await policies.load(db, QuarantinePolicy) == QuarantinePolicy()
        wanted = QuarantinePolicy(enabled=False)
        assert await policies._replace(db, QuarantinePolicy, wanted, 0, actor) == 1
        assert await policies.load(db, QuarantinePolicy) == wanted
    async with acquire(parts.database) as db:
        row = await db.fetchrow("SELECT actor, action, detail FROM audit_log WHERE target = 'policy:quarantine'")
        detail = json.loads(row["detail"])
        assert (row["actor"], row["action"], detail["version"]) == ("t-admin", "policy.set", 1)
        assert (detail["from"]["enabled"], detail["to"]["enabled"]) == (True, False)
        await db.execute("""UPDATE policies SET value = '{"enabled": "perhaps"}'""")
        with pytest.raises(Permanent, match="hub policy set quarantine"):
            await policies.load(db, QuarantinePolicy)
        assert await policies.load(db, LimitsPolicy) == LimitsPolicy()
