"""What only the source tells: the comments behind an enumeration's members, the texts beside constants."""

import ast
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Group:
    """Constants that stand together, and the text that speaks of them all."""

    names: tuple[str, ...]
    text: str


def constants(path: Path) -> list[Group]:
    """The public constants of a module, grouped as in the source: a text belongs to what stands right above it.

    A comment on the line itself comes first.
    """
    text = path.read_text(encoding="utf-8")
    comments = _comments(text)
    groups: list[Group] = []
    names: list[str] = []
    said: list[str] = []
    last_line = 0

    def close(*more: str) -> None:
        if names:
            groups.append(Group(tuple(names), " ".join([*said, *more])))
        names.clear()
        said.clear()

    for node in ast.parse(text).body:
        if node.lineno > last_line + 1:
            close()
        last_line = node.end_lineno or node.lineno
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.isupper() and not name.startswith("_"):
                names.append(name)
                said += [comments[last_line]] if last_line in comments else []
        elif (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        ):
            close(" ".join(node.value.value.split()))
    close()
    return groups


def members(path: Path, enumeration: str) -> dict[str, str]:
    """Each member's name with its comment (empty: it has none), in the order of the source."""
    text = path.read_text(encoding="utf-8")
    comments = _comments(text)
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and node.name == enumeration:
            return {
                item.targets[0].id: comments.get(item.end_lineno or item.lineno, "")
                for item in node.body
                if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name)
            }
    raise LookupError(f"{path.name} has no {enumeration}")


def _comments(text: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
