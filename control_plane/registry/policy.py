"""A policy: what is decided for the whole fleet, as one typed document with a default for every field. PURE.

Each kind stands as a `Policy` beside whoever obeys it; `policies.py` lists all kinds and reads and writes them.
"""

from typing import Any, ClassVar, Self

import msgspec

from control_plane.registry.problem import FieldError


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One policy's document; subclasses add fields, every one with its default and its unit in the name."""

    NAME: ClassVar[str] = ""
    """Its row in `policies` and the last part of its address, lower-case letters."""

    def problems(self) -> list[FieldError]:
        """What breaks its rules beyond the types of its fields; empty where nothing does."""
        return []

    @classmethod
    def read(cls, document: bytes) -> Self | list[FieldError]:
        """The policy of this JSON, or all that is wrong with it."""
        try:
            found = msgspec.json.decode(document, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return [_field_error(str(error))]
        return found.problems() or found

    def document(self) -> dict[str, Any]:
        """Its JSON object, every field in it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def _field_error(words: str) -> FieldError:
    """Where and what, from words such as "Expected `int`, got `str` - at `$.rules.flood.count`"."""
    detail, _, place = words.partition(" - at `$")
    return FieldError(place.rstrip("`").replace(".", "/"), detail)
