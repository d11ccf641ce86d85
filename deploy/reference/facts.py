"""What the pages tell, as plain values that one process can hand to another. PURE.

`module` is the dotted name of the module that declares a thing; `text` fields are empty where the code says nothing.
"""

import msgspec


class Setting(msgspec.Struct, frozen=True):
    """One field of a configuration. `default` is None where the value must be given."""

    env: str
    key: str
    type: str
    default: str | None
    text: str


class Config(msgspec.Struct, frozen=True):
    """One configuration class; `name` is the class's."""

    module: str
    name: str
    text: str
    settings: tuple[Setting, ...]


class Label(msgspec.Struct, frozen=True):
    """A metric's label, and the values that stand from the start."""

    name: str
    values: tuple[str, ...]


class Metric(msgspec.Struct, frozen=True):
    """One metric by the name under which /metrics shows it."""

    module: str
    exposed: str
    type: str
    labels: tuple[Label, ...]
    text: str


class Event(msgspec.Struct, frozen=True):
    """One log event. `moves`: exposed names of the metrics that emitting it changes."""

    module: str
    name: str
    level: str
    fields: tuple[tuple[str, str], ...]
    text: str
    moves: tuple[str, ...]


class Option(msgspec.Struct, frozen=True):
    """One argument of a command, as it is typed."""

    spelled: str
    required: bool
    text: str


class Command(msgspec.Struct, frozen=True):
    """One command. `words` begin with the program; `group` if it only gathers others."""

    words: tuple[str, ...]
    text: str
    example: str
    options: tuple[Option, ...]
    group: bool


class Field(msgspec.Struct, frozen=True):
    """One field of a JSON document; dots and `[]` lead into it."""

    name: str
    type: str
    required: bool
    text: str


class Document(msgspec.Struct, frozen=True):
    """A JSON document of the REST API or of a Kafka record."""

    name: str
    title: str
    text: str
    fields: tuple[Field, ...]


class Route(msgspec.Struct, frozen=True):
    """One REST operation. `body` and `answer` name documents, or are empty."""

    method: str
    path: str
    summary: str
    text: str
    parameters: tuple[Field, ...]
    body: str
    answer: str
    statuses: tuple[tuple[str, str], ...]


class Topic(msgspec.Struct, frozen=True):
    """One Kafka topic with the settings that `hub migrate` gives it by default, and the `ce_type`s found in it."""

    name: str
    settings: tuple[tuple[str, str], ...]
    types: tuple[str, ...]


class Facts(msgspec.Struct, frozen=True):
    """All that was found in some packages."""

    configs: tuple[Config, ...] = ()
    metrics: tuple[Metric, ...] = ()
    events: tuple[Event, ...] = ()
    commands: tuple[Command, ...] = ()
    exit_statuses: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    routes: tuple[Route, ...] = ()
    plain_paths: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()
    refusals: tuple[tuple[int, str], ...] = ()
    topics: tuple[Topic, ...] = ()


def joined(parts: list[Facts]) -> Facts:
    """All parts as one, each thing once, in the order of what it is called."""
    names = Facts.__struct_fields__
    return Facts(
        **{name: tuple(sorted({item for part in parts for item in getattr(part, name)}, key=_key)) for name in names}
    )


def _key(item: object) -> tuple[object, ...]:
    match item:
        case Config(module=module, name=name) | Event(module=module, name=name):
            return (module, name)
        case Metric(exposed=exposed, module=module):
            return (exposed, module)
        case Command(words=words):
            return words
        case Route(path=path, method=method):
            return (path, method)
        case Document(name=name) | Topic(name=name):
            return (name,)
        case tuple():
            return item
        case _:
            return (item,)
