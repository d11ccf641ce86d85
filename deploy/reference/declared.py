"""What modules declare, read from the imported modules themselves: settings, metrics, log events."""

import ast
import dataclasses
import inspect
import logging
import types
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from deploy.reference.facts import Config, Event, Label, Metric, Setting
from shared import events
from shared.config import Secret

_TYPES = {
    bool: "on or off",
    int: "whole number",
    float: "number",
    str: "text",
    Secret: "text, never shown",
    Path: "path",
}


def configs(modules: Iterable[ModuleType]) -> list[Config]:
    """Every configuration class that is nobody's base."""
    found = {cls for module in modules for cls in _classes(module) if _is_config(cls)}
    return [_config(cls) for cls in found if not any(cls in other.__mro__[1:] for other in found)]


def metrics(modules: Iterable[ModuleType], of: Iterable[object] | None = None) -> dict[MetricWrapperBase, Metric]:
    """Every metric that a module assigns to a name at its top level.

    Raises LookupError if there is another one among `of`: by default, in Prometheus' registry of this process.
    """
    found: dict[MetricWrapperBase, Metric] = {}
    for module in modules:
        for name in _assigned(module):
            metric = getattr(module, name, None)
            if isinstance(metric, MetricWrapperBase) and metric not in found and not _is_child(metric):
                found[metric] = _metric(module.__name__, metric)
    registered = REGISTRY._collector_to_names if of is None else of
    stray = [metric for metric in registered if isinstance(metric, MetricWrapperBase) and metric not in found]
    if stray:
        raise LookupError(f"metrics that no module names at its top level: {stray}")
    return found


def log_events(modules: Iterable[ModuleType], known: dict[MetricWrapperBase, Metric]) -> list[Event]:
    """Every event class."""
    return [
        _event(cls, known)
        for module in modules
        for cls in _classes(module)
        if issubclass(cls, events.Event) and cls is not events.Event
    ]


def said(thing: object) -> str:
    """The thing's own docstring on one line; a dataclass's generated one is none."""
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    name = getattr(thing, "__name__", "")
    return "" if text.startswith(f"{name}(") else " ".join(text.split())


def _classes(module: ModuleType) -> Iterator[type]:
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield value


def _is_config(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) and any("env" in field.metadata for field in dataclasses.fields(cls))


def _config(cls: type) -> Config:
    hints = typing.get_type_hints(cls)
    settings = []
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        default = None if field.default is dataclasses.MISSING else _default(field.default)
        if default == "" and kind is Secret:
            default = None  # an inherited default comes first, so such a field cannot be without one
        settings.append(Setting(field.metadata["env"], field.name, _type(kind), default, field.metadata["meaning"]))
    return Config(cls.__module__, cls.__name__, said(cls), tuple(settings))


def _type(kind: Any) -> str:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if typing.get_origin(kind) is tuple:
        return "list, separated by commas"
    return _TYPES[kind]


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}" if value < 1e6 else str(int(value))
    return str(value.value if isinstance(value, Enum) else value)


def _assigned(module: ModuleType) -> Iterator[str]:
    """Names that the module's own top level assigns, imported ones left out."""
    assert module.__file__ is not None
    for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _is_child(metric: MetricWrapperBase) -> bool:
    return bool(metric._labelvalues)


def _metric(module: str, metric: MetricWrapperBase) -> Metric:
    before = sorted(getattr(metric, "_metrics", {}))
    values = [tuple(sorted(set(column))) for column in zip(*before, strict=True)] if before else []
    labels = tuple(Label(name, values[number] if values else ()) for number, name in enumerate(metric._labelnames))
    if labels and not before:
        metric.labels(*["x"] * len(labels))  # without a child nothing is exposed but the head
    exposed, kind = _as_exposed(metric)
    return Metric(module, exposed, kind, labels, metric._documentation)


def _as_exposed(metric: MetricWrapperBase) -> tuple[str, str]:
    """Name and type as a scrape shows them."""
    registry = CollectorRegistry()
    registry.register(metric)
    for line in generate_latest(registry).decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            return name, kind
    raise LookupError(f"{metric} exposes nothing")


def _event(cls: type[events.Event], known: dict[MetricWrapperBase, Metric]) -> Event:
    hints = typing.get_type_hints(cls)
    fields = tuple((field.name, _annotation(hints[field.name])) for field in dataclasses.fields(cls))
    named = (cls.measure.__globals__.get(name) for name in cls.measure.__code__.co_names)
    moves = {_whole(value, known) for value in named if isinstance(value, MetricWrapperBase)}
    return Event(
        cls.__module__,
        events._name(cls),
        logging.getLevelName(cls.LEVEL).lower(),
        fields,
        said(cls),
        tuple(sorted(moves)),
    )


def _whole(metric: MetricWrapperBase, known: dict[MetricWrapperBase, Metric]) -> str:
    """The exposed name of a metric, or of the one that a child with label values belongs to."""
    for parent, fact in known.items():
        if metric is parent or metric in getattr(parent, "_metrics", {}).values():
            return fact.exposed
    raise LookupError(f"{metric} is no metric of a module of ours")


def _annotation(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if option is type(None) else _annotation(option) for option in arguments)
    if origin is not None and arguments:
        return f"{_JSON.get(origin, 'list')} of {_annotation(arguments[-1])}"
    return _JSON.get(kind, "text")


_JSON: dict[Any, str] = {int: "number", float: "number", bool: "boolean", str: "text", dict: "object"}
_JSON |= {typing.get_origin(typing.Mapping[str, int]): "object", list: "list", tuple: "list"}
