"""`python -m deploy.reference.survey PACKAGE`: imports one of our packages, prints what it declares as JSON.

In a process of its own for each package: programs that never meet may declare metrics of the same name.
"""

import dataclasses
import importlib
import json
import pkgutil
import sys
from collections.abc import Callable, Mapping
from importlib.resources import files
from inspect import signature
from types import ModuleType
from typing import Any, cast

import msgspec

from deploy.reference import declared, doors, json_words
from deploy.reference.facts import Document, Facts, Topic

_GENERATED = "shared.pb"


def survey(package: str) -> Facts:
    """What a package and `shared` declare. Raises what importing a module raises."""
    modules = [module for name in sorted({"shared", package}) for module in imported(name)]
    known = declared.metrics(modules)
    part = Facts(
        configs=tuple(declared.configs(modules)),
        metrics=tuple(known.values()),
        events=tuple(declared.log_events(modules, known)),
    )
    more = _MORE.get(package)
    return msgspec.structs.replace(part, **more(modules)) if more is not None else part


def imported(package: str) -> list[ModuleType]:
    """The package and all modules below it, imported, in order of name."""
    top = importlib.import_module(package)
    found = pkgutil.walk_packages(top.__path__, f"{package}.")
    names = sorted(module.name for module in found if not module.name.startswith(_GENERATED))
    return [top, *(importlib.import_module(name) for name in names)]


def _hub(modules: list[ModuleType]) -> dict[str, Any]:
    from control_plane import __main__ as hub  # noqa: PLC0415 - each survey imports its own package only
    from control_plane.registry import api, problem, rooms  # noqa: PLC0415

    parts = [cast("Any", None)] * len(signature(rooms.Rooms).parameters)  # described, never asked
    found, plain, documents = doors.routes(cast("Any", api.build(rooms.Rooms(*parts), list))._app)
    return {
        "commands": tuple(doors.commands(hub.parser())),
        "exit_statuses": (("hub", doors.exit_statuses(hub.__doc__)),),
        "routes": tuple(found),
        "plain_paths": tuple(plain),
        "documents": tuple(documents),
        "refusals": tuple(problem._TITLES.items()),
        "topics": tuple(_topics(modules)),
    }


def _edge(_: list[ModuleType]) -> dict[str, Any]:
    from edge_agent import __main__ as agent  # noqa: PLC0415 - see above
    from edge_agent.sim import __main__ as simulator  # noqa: PLC0415

    programs = (agent, simulator)
    return {
        "commands": tuple(command for program in programs for command in doors.commands(program._parser())),
        "exit_statuses": tuple(
            (program._parser().prog, doors.exit_statuses(program.__doc__)) for program in programs
        ),
    }


_MORE: Mapping[str, Callable[[list[ModuleType]], dict[str, Any]]] = {"control_plane": _hub, "edge_agent": _edge}


def _topics(modules: list[ModuleType]) -> list[Topic]:
    from control_plane.analytics.job import Writer  # noqa: PLC0415 - see above
    from control_plane.analytics.records import RAW_TYPE  # noqa: PLC0415
    from control_plane.db import kafka  # noqa: PLC0415
    from control_plane.db.setup import SetupConfig  # noqa: PLC0415
    from shared.rates import RECORD_TYPE  # noqa: PLC0415
    from shared.topics import Kafka  # noqa: PLC0415

    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(SetupConfig)}
    writers = [value for module in modules for value in vars(module).values() if isinstance(value, Writer)]
    types = {(writer._topic.value, writer._type[1].decode()) for writer in writers}
    types |= {(name, name) for name in (RAW_TYPE, *schema_names())}
    types.add((Kafka.REGISTRY.value, RECORD_TYPE))
    return [
        Topic(
            topic.name,
            tuple(sorted(topic.settings.items())),
            tuple(sorted(kind for name, kind in types if name == topic.name)),
        )
        for topic in kafka.wanted(*(defaults[f"kafka_{name}"] for name in _TOPIC_SETTINGS))
    ]


_TOPIC_SETTINGS = ("partitions", "replication", "min_isr", "flow_days", "event_days")


def schema_names() -> list[str]:
    """The event types that have a JSON Schema."""
    return sorted(item.name.removesuffix(".json") for item in (files("shared") / "schemas").iterdir())


def schemas() -> list[Document]:
    """The published JSON Schemas; a document is named by its event type."""
    folder = files("shared") / "schemas"
    return [
        json_words.document(name, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
        for name in schema_names()
    ]


def main() -> int:
    """Print the facts of the package that the command line names."""
    sys.stdout.buffer.write(msgspec.json.encode(survey(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
