"""The pages about what programs agree on: reject reasons, topics and events, limits, REST."""

from collections.abc import Iterable, Sequence

from deploy.reference import openings, source
from deploy.reference.facts import Document, Facts, Field, Route, Topic
from deploy.reference.markdown import anchor, code, prose, table
from deploy.reference.processes import modules
from shared import batch, envelope, limits
from shared.errors import Reason
from shared.topics import Channel, Kafka, subscription

_DAY_MS = 86_400_000


def reasons() -> str:
    """The page of reject reasons."""
    rows = [(code(Reason[name].value), prose(text)) for name, text in _reason_texts().items()]
    return "\n".join([openings.REASONS, table(("reason", "meaning"), rows)])


def sizes() -> str:
    """The page of limits."""
    rows = [
        (", ".join(map(code, group.names)), ", ".join(_number(name) for name in group.names), prose(group.text))
        for group in _limit_groups()
    ]
    return "\n".join([openings.LIMITS, table(("limit", "value", "meaning"), rows)])


def topics(facts: Facts, schemas: Sequence[Document]) -> str:
    """The page of topics, headers and event types."""
    sample = envelope.Envelope("", "", "", 0, "", dataschema="", traceparent="")
    names = [name for name, _ in envelope.headers(sample)]
    properties = ", ".join(map(code, batch.HEADER_NAMES))
    parts = [
        "## MQTT topics\n",
        openings.TOPICS,
        table(("topic", "content"), [(code(subscription(channel)), _content(channel)) for channel in Channel]),
        f"Properties of a batch: {properties}.\n",
        "## Kafka topics\n",
        openings.KAFKA,
        table(("topic", "kept", "other settings", "event types"), [_topic(topic, schemas) for topic in facts.topics]),
        f"Headers of every record (CloudEvents 1.0, binary mode): {', '.join(map(code, names))}.\n",
        "## Event types\n",
        f"In `{Kafka.RAW}` the value is the message as it came; elsewhere it is JSON, as published at `/schemas/`.\n",
    ]
    for schema in schemas:
        text = ". ".join(filter(None, (schema.title.rstrip("."), schema.text)))
        parts += [f"### `{schema.name}`\n", f"{prose(text)}\n", _fields(schema.fields)]
    return "\n".join(parts)


def rest(facts: Facts) -> str:
    """The page of REST."""
    rows = [
        (
            f"[{route.method}](#{anchor(_heading(route))})",
            code(route.path),
            prose(route.summary),
            ", ".join(_status(route)),
        )
        for route in facts.routes
    ]
    parts = [
        openings.REST,
        table(("method", "path", "what", "statuses"), rows),
        "Refusals:\n",
        table(("status", "title"), [(str(status), prose(title)) for status, title in facts.refusals]),
        f"Beside these, without a token: {', '.join(map(code, facts.plain_paths))}.\n",
    ]
    for route in facts.routes:
        parts += [f"## {_heading(route)}\n", *_route(route)]
    parts.append("## Documents\n")
    for found in facts.documents:
        parts += [f"### {found.name}\n", f"{prose(found.text)}\n", _fields(found.fields)]
    return "\n".join(parts)


def gaps() -> list[str]:
    """Whatever of the shared words has no text."""
    found = [f"shared.errors: {name} has no comment" for name, text in _reason_texts().items() if not text]
    found += [f"shared.limits: {', '.join(group.names)} has no text" for group in _limit_groups() if not group.text]
    return found


def _reason_texts() -> dict[str, str]:
    return source.members(modules()["shared.errors"], "Reason")


def _limit_groups() -> list[source.Group]:
    return [group for group in source.constants(modules()["shared.limits"]) if set(group.names) != {"KIB", "MIB"}]


def _number(name: str) -> str:
    value = getattr(limits, name)
    if name.endswith("_BYTES"):
        size = f"{value // limits.MIB} MiB" if value % limits.MIB == 0 else f"{value // limits.KIB} KiB"
        return f"{size} ({value:,})"
    return f"{value:,}"


def _content(channel: Channel) -> str:
    return f"content type `{batch.CONTENT_TYPE}`" if channel is Channel.BATCHES else "JSON"


def _topic(topic: Topic, schemas: Sequence[Document]) -> tuple[str, ...]:
    settings = dict(topic.settings)
    retention = settings.pop("retention.ms", None)
    policy = settings.pop("cleanup.policy")
    kept = f"{int(retention) // _DAY_MS} days" if retention else "the newest record of each key"
    assert (policy == "compact") == (retention is None)
    others = ", ".join(f"`{name}={value}`" for name, value in settings.items())
    described = {schema.name for schema in schemas}
    types = ", ".join(f"[`{kind}`](#{anchor(kind)})" if kind in described else code(kind) for kind in topic.types)
    return (code(topic.name), kept, others, types)


def _fields(fields: Iterable[Field]) -> str:
    rows = [(code(one.name), one.type, "yes" if one.required else "", prose(one.text)) for one in fields]
    return table(("field", "type", "required", "meaning"), rows)


def _heading(route: Route) -> str:
    return f"{route.method} {route.path}"


def _status(route: Route) -> list[str]:
    return [status for status, _ in route.statuses if status.startswith("2")]  # refusals are the same for all


def _route(route: Route) -> Iterable[str]:
    text = f"{route.summary}. {route.text}" if route.text else f"{route.summary}."
    yield f"{prose(text)}\n"
    if route.parameters:
        rows = [
            (code(one.name), one.type, "yes" if one.required else "", prose(one.text)) for one in route.parameters
        ]
        yield table(("parameter", "type", "required", "meaning"), rows)
    body = f"Body: {_linked(route.body)}. " if route.body else ""
    answer = f"Answer: {_linked(route.answer)}, status {', '.join(_status(route))}." if route.answer else ""
    yield f"{body}{answer} Otherwise: a problem document.\n"


def _linked(name: str) -> str:
    """A document's name leads to it; `string` and the like lead nowhere."""
    return f"[{name}](#{anchor(name)})" if name.isidentifier() and name[:1].isupper() else name
