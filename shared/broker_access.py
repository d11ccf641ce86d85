"""What a client of the hub's broker may do: one table; the acl_file is made from it, HTTP questions answered. PURE.

Devices and gateways are known by their client id, to which their record binds them; our own services by user name.
What is not in the table is refused.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.ids import is_device_id
from shared.topics import Channel, pattern, subscription

SERVICE_MARK = "_"
"""User names and client ids of our own services begin with it; no device's id can."""
CONTROL = "$CONTROL/dynamic-security/#"


class Action(StrEnum):
    """What is done with a topic; a subscription is judged by its filter."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows `action` on whatever `filter` matches; `%c` stands for the client id."""

    action: Action
    filter: str


_CLIENT = "%c"
DEVICE_RULES = (
    Rule(Action.PUBLISH, pattern(Channel.TELEMETRY, _CLIENT)),
    Rule(Action.PUBLISH, pattern(Channel.STATUS, _CLIENT)),
    Rule(Action.SUBSCRIBE, pattern(Channel.COMMANDS, _CLIENT)),
    Rule(Action.SUBSCRIBE, f"{pattern(Channel.COMMANDS, _CLIENT)}/#"),
    Rule(Action.SUBSCRIBE, pattern(Channel.NOTICES, _CLIENT)),
    Rule(Action.PUBLISH, pattern(Channel.BATCHES, _CLIENT)),
    Rule(Action.SUBSCRIBE, pattern(Channel.ACKS, _CLIENT)),
)
SERVICE_RULES = {
    "_ingest": (
        Rule(Action.SUBSCRIBE, subscription(Channel.TELEMETRY)),
        Rule(Action.SUBSCRIBE, subscription(Channel.STATUS)),
        Rule(Action.SUBSCRIBE, subscription(Channel.BATCHES)),
        Rule(Action.PUBLISH, subscription(Channel.ACKS)),
        Rule(Action.PUBLISH, subscription(Channel.NOTICES)),
        Rule(Action.PUBLISH, subscription(Channel.COMMANDS)),
    ),
    "_registry": (
        Rule(Action.PUBLISH, CONTROL),
        Rule(Action.SUBSCRIBE, CONTROL),
        Rule(Action.PUBLISH, subscription(Channel.COMMANDS)),
    ),
    "_monitor": (Rule(Action.SUBSCRIBE, "$SYS/#"),),
}


def may(username: str, client_id: str, action: str, topic: str) -> bool:
    """Whether somebody who was let in as this user, with this client id, may publish to the topic, or subscribe to
    the filter. Shared subscriptions are nobody's.
    """
    if not topic or len(topic.encode()) > 65_535 or "\0" in topic:
        return False
    if action == Action.PUBLISH and ("+" in topic or "#" in topic):
        return False
    if username.startswith(SERVICE_MARK):
        rules = SERVICE_RULES.get(username, ()) if client_id.startswith(SERVICE_MARK) else ()
    else:
        rules = DEVICE_RULES if is_device_id(client_id) else ()
    return any(rule.action == action and covers(rule.filter.replace(_CLIENT, client_id), topic) for rule in rules)


def covers(allowed: str, asked: str) -> bool:
    """Whether every topic that `asked` (a topic, or a filter) matches is matched by the filter `allowed`."""
    ours, theirs = allowed.split("/"), asked.split("/")
    if "#" in theirs[:-1] or any(len(level) > 1 and ("+" in level or "#" in level) for level in theirs):
        return False  # no filter at all
    if theirs[0].startswith("$") and ours[0] in ("+", "#"):
        return False  # wildcards at the first level do not match what begins with $
    for number, level in enumerate(ours):
        if level == "#":
            return True
        if number >= len(theirs) or theirs[number] == "#":
            # `a/#` asked for is more than `a/+` or `a/b` allows.
            return False
        if level != "+" and level != theirs[number]:
            return False
    return len(ours) == len(theirs)


def acl_file() -> str:
    """Mosquitto's acl_file of the table."""
    verbs = {Action.PUBLISH: "write", Action.SUBSCRIBE: "read"}
    lines = ["# Devices and gateways, by the client id to which their record is bound: each as itself only."]
    lines += [f"pattern {verbs[rule.action]} {rule.filter}" for rule in DEVICE_RULES]
    lines += ["", '# Our own services, by user name; their client ids begin with "_", which no device\'s can.']
    for name, rules in SERVICE_RULES.items():
        lines += [f"user {name}", *(f"topic {verbs[rule.action]} {rule.filter}" for rule in rules), ""]
    return "\n".join(lines)
