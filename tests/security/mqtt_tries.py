"""The MQTT half of the misuse matrix: who tries what at the hub's broker, and what must come of it.

A row names its parts by the people of the site: direct devices `a` and `b`, gateway `g` with device `d` behind it,
gateway `h`, and what never existed. `{a}` in a text is that one's id, `{a.key}` its key id, `{a.secret}` its secret.
"""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What may come of a try."""

    IN = "connected"
    OUT = "refused at connect"
    TAKEN = "publish taken"
    REFUSED = "publish refused, or the connection closed"
    OWN_ONLY = "nothing of others delivered"


@dataclass(frozen=True, slots=True)
class Try:
    """One row. Without `topic` and `read` only the connect is tried."""

    name: str
    expected: Outcome
    client: str
    user: str | None = None
    password: str | None = None
    topic: str | None = None
    read: str | None = None
    version: int = 5


_OWN = {"user": "{a.key}", "password": "{a.secret}"}
_SQL = "k:' OR '1'='1"
CONNECTS = [
    Try("as itself", Outcome.IN, "{a}", **_OWN),
    Try("a gateway as itself", Outcome.IN, "{g}", user="{g.key}", password="{g.secret}"),
    Try("MQTT 3.1.1 as itself", Outcome.IN, "{a}", **_OWN, version=4),
    *(
        Try(f"{name}, MQTT {version}", Outcome.OUT, version=version, **row)
        for version in (4, 5)
        for name, row in {
            "no credentials": {"client": "{a}"},
            "key id without secret": {"client": "{a}", "user": "{a.key}"},
            "empty secret": {"client": "{a}", "user": "{a.key}", "password": ""},
            "wrong secret": {"client": "{a}", "user": "{a.key}", "password": "x" * 43},
            "secret with a letter less": {"client": "{a}", "user": "{a.key}", "password": "{a.short}"},
            "secret with a letter more": {"client": "{a}", "user": "{a.key}", "password": "{a.secret}x"},
            "the hash for the secret": {"client": "{a}", "user": "{a.key}", "password": "{a.hash}"},
            "key id for secret": {"client": "{a}", "user": "{a.key}", "password": "{a.key}"},
            "another's secret": {"client": "{a}", "user": "{a.key}", "password": "{b.secret}"},
            "another's key": {"client": "{a}", "user": "{b.key}", "password": "{b.secret}"},
            "own key under another's client id": {"client": "{b}", **_OWN},
            "own key under a gateway's client id": {"client": "{g}", **_OWN},
            "a gateway under its device's client id": {
                "client": "{d}", "user": "{g.key}", "password": "{g.secret}",
            },
            "another gateway's key": {"client": "{g}", "user": "{h.key}", "password": "{h.secret}"},
            "own key under ingest's client id": {"client": "_ingest-0", **_OWN},
            "own key under the registry's client id": {"client": "_registry-0", **_OWN},
            "own key under a client id of its own making": {"client": "visitor", **_OWN},
            "client id in capitals": {"client": "{a.capitals}", **_OWN},
            "client id with a slash": {"client": "{a}/telemetry", **_OWN},
            "client id with a wildcard": {"client": "+", **_OWN},
            "the device id for user name": {"client": "{a}", "user": "{a}", "password": "{a.secret}"},
            "the whole key for user name": {
                "client": "{a}", "user": "{a.key}.{a.secret}", "password": "{a.secret}",
            },
            "key id in capitals": {"client": "{a}", "user": "{a.key.capitals}", "password": "{a.secret}"},
            "key id with a blank behind": {"client": "{a}", "user": "{a.key} ", "password": "{a.secret}"},
            "an unknown key": {"client": "{a}", "user": "k:aaaaaaaaaaaa", "password": "{a.secret}"},
            "SQL for a user name": {"client": "{a}", "user": _SQL, "password": _SQL},
            "a path for a user name": {"client": "{a}", "user": "../../etc/passwd", "password": "x"},
            "ingest's user name": {"client": "_ingest-0", "user": "_ingest", "password": "{a.secret}"},
            "the registry's user name": {"client": "_registry-1", "user": "_registry", "password": ""},
            "a line break in the user name": {"client": "{a}", "user": "{a.key}\n", "password": "{a.secret}"},
            "a rotated-out key": {"client": "{r}", "user": "{r.old.key}", "password": "{r.old.secret}"},
        }.items()
    ),
]  # fmt: skip

_PEOPLE = {"a": "a direct device", "d": "a device behind a gateway", "g": "a gateway"}
_MINE = "telemetry", "status"
_TOPICS = {
    "own telemetry": "devices/{me}/telemetry",
    "own status": "devices/{me}/status",
    "own commands": "devices/{me}/commands",
    "own notices": "devices/{me}/notices",
    "own acks": "gateways/{me}/acks",
    "another's telemetry": "devices/{b}/telemetry",
    "another's status": "devices/{b}/status",
    "another's commands": "devices/{b}/commands",
    "another's notices": "devices/{b}/notices",
    "another gateway's batches": "gateways/{h}/batches",
    "another gateway's acks": "gateways/{h}/acks",
    "a level below its own": "devices/{me}/telemetry/x",
    "a level above": "devices/{me}",
    "an empty level": "devices//telemetry",
    "dots between": "devices/{b}/../{me}/telemetry",
    "a leading slash": "/devices/{me}/telemetry",
    "the broker's own tree": "$SYS/broker/version",
    "the broker's control": "$CONTROL/dynamic-security/v1",
    "a shared subscription's name": "$share/x/devices/{me}/telemetry",
    "anything else": "anything",
    "own topic in capitals": "devices/{me}/TELEMETRY",
}
PUBLISHES = [
    Try(
        f"{_PEOPLE[who]}: {name}",
        Outcome.TAKEN if name in ("own telemetry", "own status") else Outcome.REFUSED,
        f"{{{who}}}",
        f"{{{who}.key}}",
        f"{{{who}.secret}}",
        topic=topic.replace("{me}", f"{{{who}}}"),
    )
    for who in _PEOPLE
    for name, topic in _TOPICS.items()
]
_FILTERS = {
    "everything": "#",
    "everything of all devices": "devices/#",
    "all telemetry": "devices/+/telemetry",
    "all commands": "devices/+/commands",
    "all notices": "devices/+/notices",
    "all acks": "gateways/+/acks",
    "all batches": "gateways/+/batches",
    "another's telemetry": "devices/{b}/telemetry",
    "another's commands": "devices/{b}/commands",
    "another's notices": "devices/{b}/notices",
    "another gateway's acks": "gateways/{h}/acks",
    "another gateway's batches": "gateways/{h}/batches",
    "the broker's own tree": "$SYS/#",
    "the broker's log": "$SYS/broker/log/#",
    "the answers of the broker's control": "$CONTROL/dynamic-security/v1/response",
    "shared with ingest": "$share/ingest/devices/+/telemetry",
}
READS = [
    Try(
        f"{_PEOPLE[who]} reads {name}",
        Outcome.OWN_ONLY,
        f"{{{who}}}",
        f"{{{who}.key}}",
        f"{{{who}.secret}}",
        read=topic,
    )
    for who in ("a", "g")
    for name, topic in _FILTERS.items()
]
