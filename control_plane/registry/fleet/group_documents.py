"""REST documents of groups. PURE."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from control_plane.registry.fleet.documents import SELECTORS, Selector
from control_plane.registry.fleet.group_query import Group
from control_plane.registry.resources import Id, TypeName
from shared.device import Kind

MEMBERS = 500
"""The most that one request adds or removes."""
_NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"
Description = Annotated[str, Field(max_length=256, pattern=_NO_CONTROL)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GroupQuery(_Document):
    """Who is in: all of it must hold."""

    labels: Annotated[list[Selector], Field(max_length=SELECTORS)] = []
    type: TypeName | None = None
    kind: Kind | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "GroupQuery":
        if not self.labels and self.type is None and self.kind is None:
            raise ValueError("an empty query would be the whole fleet")
        return self

    def stored(self) -> dict[str, Any]:
        """What the database keeps: only what was said."""
        return self.model_dump(mode="json", exclude_defaults=True)


class NewGroup(_Document):
    """A group to be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "canaries", "description": "the first to get anything new"},
                {"name": "berlin-mains", "query": {"labels": ["site=berlin", "mains"], "type": "thermometer"}},
            ]
        }
    )

    name: TypeName
    description: Description = ""
    query: GroupQuery | None = None


class GroupChange(_Document):
    """What to change; what is not named stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": {"labels": ["site=hamburg"]}}]})

    description: Description = ""
    query: GroupQuery = GroupQuery.model_construct()

    def asked(self) -> dict[str, Any]:
        """Only what was named."""
        found: dict[str, Any] = {}
        if "description" in self.model_fields_set:
            found["description"] = self.description
        if "query" in self.model_fields_set:
            found["query"] = self.query.stored()
        return found


class Members(_Document):
    """Devices by their ids."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"devices": ["cellar-1", "cellar-2"]}]})

    devices: Annotated[list[Id], Field(min_length=1, max_length=MEMBERS)]


class GroupView(BaseModel):
    """A group."""

    name: str
    description: str
    query: dict[str, Any] | None = Field(description="labels, type, kind; null: its members are listed.")
    version: int = Field(description="Rises with every change; also the ETag.")
    created_at: datetime
    updated_at: datetime


class GroupList(BaseModel):
    """A page of groups in order of name."""

    groups: list[GroupView]
    next_cursor: str | None


class MembershipView(BaseModel):
    """What a change of members did."""

    group: GroupView
    changed: int
    unknown: list[str]


def view(group: Group) -> GroupView:
    """A group as it is shown."""
    return GroupView(
        name=group.name,
        description=group.description,
        query=dict(group.query) if group.query is not None else None,
        version=group.version,
        created_at=group.created_at,
        updated_at=group.updated_at,
    )
