"""REST documents of the fleet's routes: what a search, a change or a move may say. PURE."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from control_plane.registry.fleet.patch import Patch
from control_plane.registry.resources import LABELS, LabelName, LabelValue, Location, RateLimits

SELECTORS = 8
_NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"
Selector = Annotated[
    str,
    Field(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}(=[^\x00-\x1f\x7f]{0,128})?$"),
]
"""`name=value`, or `name` for whatever value."""


class DevicePatch(BaseModel):
    """What to change; what is not named stays. null removes a label, the location, the limits."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"labels": {"site": "berlin", "old-name": None}},
                {"serial": "SN-0002", "location": {"place": "hall 3", "lat": 52.5, "lon": 13.4}},
                {"limits": {"messages_per_s": 5}},
            ]
        },
    )

    serial: Annotated[str, Field(min_length=1, max_length=128, pattern=_NO_CONTROL)] = ""
    labels: Annotated[dict[LabelName, LabelValue | None], Field(max_length=2 * LABELS)] | None = None
    location: Location | None = None
    limits: RateLimits | None = None

    def patch(self) -> Patch:
        """The same in the domain's words."""
        asked: dict[str, Any] = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            asked[name] = value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
        return Patch(asked)


class MoveReason(BaseModel):
    """Why; kept in the audit log for ever, so it names no person."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"reason": "sold"}]})

    reason: Annotated[str, Field(max_length=256, pattern=_NO_CONTROL)] | None = None
