"""What people and programs type and send: commands from their parsers, REST from its OpenAPI description."""

import argparse
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.reference import json_words
from deploy.reference.facts import Command, Document, Field, Option, Route

_EXIT_STATUS = re.compile(r"Exit status:(.*?)\.(?: |$)")


def commands(parser: argparse.ArgumentParser) -> list[Command]:
    """A program and all its commands. The layout is ours: argparse's own differs between Python's versions."""
    return list(_commands(parser, (parser.prog,), ""))


def exit_statuses(docstring: str | None) -> tuple[tuple[str, str], ...]:
    """What a program's module says of its exit status: `Exit status: 0 done, 1 failed, ….`, as number and meaning."""
    said = _EXIT_STATUS.search(" ".join((docstring or "").split()))
    parts = re.split(r",? (?=\d+ )", said.group(1)) if said else []
    return tuple((number, meaning) for number, _, meaning in (part.partition(" ") for part in parts) if number)


def _commands(parser: argparse.ArgumentParser, words: tuple[str, ...], help_text: str) -> Iterator[Command]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    options = tuple(_option(action) for action in parser._actions if action not in inner and action.dest != "help")
    text = parser.description or help_text
    # The exit statuses stand in a table of their own.
    examples = [part for part in (parser.epilog or "").split("\n\n") if not part.startswith("Exit status:")]
    yield Command(words, text[:1].upper() + text[1:], "\n\n".join(examples), options, bool(inner))
    for action in inner:
        summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, subparser in action.choices.items():
            yield from _commands(subparser, (*words, name), summaries.get(name, ""))


def _option(action: argparse.Action) -> Option:
    choices = ", ".join(str(choice) for choice in action.choices or ())
    text = (action.help or "") % (vars(action) | {"choices": choices})
    if isinstance(action, argparse._AppendAction) and "again" not in text and "repeated" not in text:
        text += " (may be repeated)"
    return Option(_spelled(action), action.required, text)


def _spelled(action: argparse.Action) -> str:
    value = str(action.metavar or action.dest.upper())
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
    if not action.option_strings:
        return value
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {value}")


def routes(application: Any) -> tuple[list[Route], list[str], list[Document]]:
    """The operations of a FastAPI application, its paths outside the description, and the documents it names."""
    description: Mapping[str, Any] = application.openapi()
    found = [
        _route(method, path, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    plain = [route.path for route in application.routes if not route.include_in_schema]
    schemas = description.get("components", {}).get("schemas", {})
    return found, plain, [json_words.document(name, schema) for name, schema in schemas.items()]


def _route(method: str, path: str, operation: Mapping[str, Any]) -> Route:
    parameters = tuple(
        Field(
            item["name"],
            f"{item['in']}, {json_words.words(item['schema'])}",
            item.get("required", False),
            item.get("description", ""),
        )
        for item in operation.get("parameters", ())
    )
    responses = operation["responses"]
    answers = [_content(responses[status]) for status in sorted(responses) if status.startswith("2")]
    return Route(
        method.upper(),
        path,
        operation.get("summary", ""),
        operation.get("description", ""),
        parameters,
        _content(operation.get("requestBody", {})),
        next(iter(answers), ""),
        # A reference to a response that all routes share has no words of its own.
        tuple((status, responses[status].get("description", "")) for status in sorted(responses)),
    )


def _content(part: Mapping[str, Any]) -> str:
    for media in part.get("content", {}).values():
        return json_words.words(media.get("schema", {}))
    return ""
