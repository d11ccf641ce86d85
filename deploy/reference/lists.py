"""The pages about what programs declare: configuration, metrics, log events, commands."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from deploy.reference import openings, processes
from deploy.reference.facts import Command, Config, Event, Facts, Metric
from deploy.reference.markdown import code, prose, table

_Item = TypeVar("_Item", Metric, Event)

FIXED_NAMES = {
    "telemetry_ingest_rate": "",
    "telemetry_mqtt_connect_failures": "",
    "firmware_rollout_progress": "comes with firmware rollouts",
    "anomaly_events_total": "",
}
"""Metric names that dashboards may rely on, and why one is absent."""

_OTHER_VARIABLES = {
    "HUB_SUPERVISOR_PID": "set by `hub serve` for its services: a service ends when this process has ended",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "where traces are exported to (OTLP over HTTP); none: nothing is traced. The "
    "exporter reads its other standard variables too",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "the same, for traces alone",
    "TRACE_RATIO": "share of messages, 0 to 1, that begin a trace if they bring no traceparent; default 0.01",
}
"""What programs read beside their settings."""

_COMMAND = re.compile(r"`((?:hub|edge-)[a-z -]*)`")


def configuration(facts: Facts) -> str:
    """The page of settings."""
    readers = [(_read_by(config), config) for config in facts.configs]
    readers.sort(key=lambda item: _rank(item[0], item[1].module))
    by_variable: dict[str, list[str]] = {}
    for names, config in readers:
        for setting in config.settings:
            by_variable.setdefault(setting.env, []).extend(names)
    parts = [
        openings.CONFIGURATION,
        "## Variables\n",
        table(
            ("variable", "read by"),
            [(code(env), ", ".join(map(code, dict.fromkeys(by_variable[env])))) for env in sorted(by_variable)],
        ),
        "Beside these:\n",
        table(("variable", "meaning"), [(code(env), prose(text)) for env, text in sorted(_OTHER_VARIABLES.items())]),
    ]
    for names, config in readers:
        parts += [f"## {', '.join(map(code, names))}\n", _settings(config)]
    return "\n".join(parts)


def other_variables() -> frozenset[str]:
    """The variables that the page names beside the settings."""
    return frozenset(_OTHER_VARIABLES)


def metrics(facts: Facts) -> str:
    """The page of metrics."""
    exposed = {metric.exposed: metric for metric in facts.metrics}
    parts = [
        openings.METRICS,
        "## Fixed names\n",
        "These do not change.\n",
        table(
            ("metric", "type", "exposed by"),
            [
                (code(name), exposed[name].type if name in exposed else "", prose(_whose(facts, name) or why))
                for name, why in FIXED_NAMES.items()
            ],
        ),
    ]
    for heading, found in _by_process(facts.metrics):
        parts += [f"## {heading}\n", table(("metric", "type", "labels", "meaning"), map(_metric, found))]
    return "\n".join(parts)


def log_events(facts: Facts) -> str:
    """The page of log events."""
    parts = [openings.EVENTS]
    for heading, found in _by_process(facts.events):
        parts += [f"## {heading}\n", table(("event", "level", "fields", "meaning", "moves"), map(_event, found))]
    return "\n".join(parts)


def commands(facts: Facts) -> str:
    """The page of commands."""
    parts = [openings.COMMANDS, _exit_statuses(facts)]
    for program, found in groupby(facts.commands, key=lambda command: command.words[0]):
        for command in found:
            level = "##" if command.words == (program,) else "###"
            parts += [f"{level} `{' '.join(command.words)}`\n", *_command(command)]
    return "\n".join(parts)


def gaps(facts: Facts) -> list[str]:
    """Whatever has no text."""
    found = [f"{config.module}: {config.name} has no docstring" for config in facts.configs if not config.text]
    found += [f"{event.module}: {event.name} has no docstring" for event in facts.events if not event.text]
    found += [f"{config.module}: {config.name} names no program" for config in facts.configs if not _read_by(config)]
    found += [f"{metric.module}: {metric.exposed} has no help" for metric in facts.metrics if not metric.text]
    found += [f"{metric.module}: {metric.exposed} is in no process" for metric in facts.metrics if not _in(metric)]
    found += [f"{event.module}: {event.name} is in no process" for event in facts.events if not _in(event)]
    for config in facts.configs:
        found += [f"{config.module}: {one.env} has no meaning" for one in config.settings if not one.text]
    for command in facts.commands:
        words = " ".join(command.words)
        found += [] if command.text else [f"`{words}` has neither description nor help"]
        found += [f"`{words} {option.spelled}` has no help" for option in command.options if not option.text]
    return found


def _read_by(config: Config) -> list[str]:
    return _COMMAND.findall(config.text)


def _rank(names: Sequence[str], module: str) -> tuple[int, str, str]:
    order = [*processes.PROCESSES, "edge-agent"]
    first = names[0] if names else ""
    return (order.index(first) if first in order else len(order), first, module)


def _settings(config: Config) -> str:
    rows = [
        (
            code(setting.env),
            code(setting.key),
            setting.type,
            "required" if setting.default is None else code(setting.default) or "none",
            prose(setting.text),
        )
        for setting in config.settings
    ]
    return table(("variable", "key", "type", "default", "meaning"), rows)


def _name(item: Metric | Event) -> str:
    return item.exposed if isinstance(item, Metric) else item.name


def _in(item: Metric | Event) -> tuple[str, ...]:
    return processes.having(item.module)


def _whose(facts: Facts, name: str) -> str:
    return ", ".join(f"`{process}`" for metric in facts.metrics if metric.exposed == name for process in _in(metric))


def _by_process(items: Sequence[_Item]) -> Iterator[tuple[str, list[_Item]]]:
    """Grouped by the processes that have them: what all have first, then in the order of the processes."""
    groups: dict[tuple[str, ...], list[_Item]] = {}
    for item in items:
        groups.setdefault(_in(item), []).append(item)
    for found in groups.values():
        found.sort(key=_name)
    order = list(processes.PROCESSES)
    for names in sorted(groups, key=lambda names: (-len(names), [order.index(name) for name in names])):
        yield processes.in_words(names), groups[names]


def _metric(metric: Metric) -> tuple[str, ...]:
    labels = (
        f"`{label.name}`" + (f" ({', '.join(label.values)})" if label.values else "") for label in metric.labels
    )
    return (code(metric.exposed), metric.type, ", ".join(labels), prose(metric.text))


def _event(event: Event) -> tuple[str, ...]:
    fields = ", ".join(f"`{name}` {kind}" for name, kind in event.fields)
    return (code(event.name), event.level, fields, prose(event.text), ", ".join(map(code, event.moves)))


def _command(command: Command) -> Iterable[str]:
    yield f"{prose(_sentence(command.text))}\n"
    usage = [
        option.spelled if option.required else f"[{option.spelled}]"
        for option in sorted(command.options, key=lambda option: option.spelled.startswith("-"))
    ]
    if not command.group:
        yield f"```text\n{' '.join([*command.words, *usage])}\n```\n"
    if command.options:
        rows = [(code(one.spelled), "yes" if one.required else "", prose(one.text)) for one in command.options]
        yield table(("argument", "required", "meaning"), rows)
    words, _, example = command.example.partition("example: ")
    if example and not words and ". " not in example and "\n" not in example:
        yield f"Example: {code(example)}\n"
    elif command.example:
        yield f"```text\n{command.example.strip()}\n```\n"


def _sentence(text: str) -> str:
    return text if not text or text.endswith(".") else f"{text}."


def _exit_statuses(facts: Facts) -> str:
    """What each program's exit status means, a program a column."""
    meanings = {program: dict(pairs) for program, pairs in facts.exit_statuses}
    numbers = sorted({number for pairs in meanings.values() for number in pairs}, key=int)
    rows = [(code(number), *(prose(pairs.get(number, "")) for pairs in meanings.values())) for number in numbers]
    return table(("exit status", *map(code, meanings)), rows)
