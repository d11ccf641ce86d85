"""Named SQL: a room's statements stand in its `queries.sql`, each below a line `-- name: words`. PURE."""

import re

_NAME = re.compile(r"^-- name: ([a-z0-9_]+)[ \t]*$", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """Statements by name. An assertion fails for a name used twice or without a statement: both are our own bugs."""
    parts = _NAME.split(text)
    named: dict[str, str] = {}
    for name, statement in zip(parts[1::2], parts[2::2], strict=True):
        assert name not in named, f"two statements named {name}"
        assert statement.strip(), f"no statement named {name}"
        named[name] = statement.strip()
    return named
