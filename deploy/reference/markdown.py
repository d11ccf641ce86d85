"""Markdown from plain texts. PURE.

Texts may hold `code` in backticks, as docstrings do; what would be markup elsewhere is escaped.
"""

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"([*\[\]]|(?<!\w)_|_(?!\w))")


def prose(text: str) -> str:
    """A text on one line."""
    pieces = " ".join(text.split()).split("`")
    if len(pieces) % 2 == 0:  # a backtick without its partner is just a character
        pieces[-2:] = ["\\`".join(pieces[-2:])]
    return "`".join(piece if number % 2 else _plain(piece) for number, piece in enumerate(pieces))


def code(text: str) -> str:
    """A text in code style; empty stays empty."""
    return f"`{text}`" if text else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; no rows, no table."""
    body = [_row(row) for row in rows]
    return "\n".join([_row(heads), _row(["---"] * len(heads)), *body]) + "\n" if body else ""


def anchor(heading: str) -> str:
    """The address of a heading within its page."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
