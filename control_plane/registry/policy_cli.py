"""`hub policy`: show and set what is decided for the whole fleet."""

import argparse
import json
from typing import Any

from control_plane.registry.cli_words import Nouns, UsageError, client, leaf, part, say
from shared.printable import printable


def register(nouns: Nouns) -> None:
    """Add these commands."""
    found = nouns.actions("policy", "show and set what is decided for the whole fleet")
    leaf(found, "list", "list all policies with their fields", "hub policy list", _list)
    show = leaf(found, "show", "show one policy", "hub policy show limits", _show)
    show.add_argument("name", metavar="POLICY", help="such as limits or quarantine")
    setter = leaf(
        found,
        "set",
        "change fields of a policy",
        "hub policy set quarantine rules.flood.count=1000 rules.flood.for_s=600",
        _set,
    )
    setter.add_argument("name", metavar="POLICY", help="such as limits or quarantine")
    setter.add_argument(
        "fields", nargs="+", metavar="FIELD=VALUE", help="a field, its path written with dots; the value is JSON"
    )


def _list(args: argparse.Namespace) -> int:
    with client() as rest:
        found = rest.get("/v1/policies")
    say(args, found, "\n\n".join(_words(item) for item in found["policies"]))
    return 0


def _show(args: argparse.Namespace) -> int:
    with client() as rest:
        found = rest.get(f"/v1/policies/{part(args.name)}")
    say(args, found, _words(found))
    return 0


def _set(args: argparse.Namespace) -> int:
    address = f"/v1/policies/{part(args.name)}"
    with client() as rest:
        before = rest.get(address)
        value = changed(before["value"], args.fields)
        found = rest.put(address, value, version=before["version"])
    say(args, found, _words(found))
    return 0


def changed(document: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """The document with these fields set. Raises UsageError for a field that it has not."""
    document = json.loads(json.dumps(document))
    for field in fields:
        path, equals, text = field.partition("=")
        if not equals:
            raise UsageError(f"{field!r} is not FIELD=VALUE")
        *parents, last = path.split(".")
        inner: Any = document
        for name in parents:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner:
            raise UsageError(f"the policy has no field {path!r}")
        try:
            inner[last] = json.loads(text)
        except ValueError:
            inner[last] = text  # a word needs no quotes
    return document


def _words(found: dict[str, Any]) -> str:
    version = f"version {found['version']}" if found["version"] else "the defaults"
    return "\n".join([f"{found['name']} ({version})", *_fields("", found["value"])])


def _fields(prefix: str, value: dict[str, Any]) -> list[str]:
    lines = []
    for name, inner in value.items():
        if isinstance(inner, dict):
            lines += _fields(f"{prefix}{name}.", inner)
        else:
            lines.append(f"  {prefix + name:<36} {printable(json.dumps(inner))}")
    return lines
