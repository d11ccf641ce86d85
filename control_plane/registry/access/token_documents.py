"""Tokens as REST shows and takes them. PURE."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from shared.authority import SCOPES, Role, unknown_scopes

LONGEST_S = 10 * 365 * 24 * 3600
TOKEN_ID_PATTERN = r"^t-[a-z0-9]{1,62}$"  # noqa: S105 - a pattern
_NAME_PATTERN = r"^[^\x00-\x1f\x7f]*$"


class RoleName(StrEnum):
    """Each may do what the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def role(self) -> Role:
        """The same in the domain's words."""
        return Role[self.name]


class TokenState(StrEnum):
    """Whether it is let in."""

    USABLE = "usable"
    EXPIRED = "expired"
    REVOKED = "revoked"


def _scope(text: str) -> str:
    if unknown_scopes([text]):
        raise ValueError(f"{text!r} is no scope; scopes are {', '.join(sorted(SCOPES))}")
    return text


Scope = Annotated[str, AfterValidator(_scope), Field(json_schema_extra={"enum": sorted(SCOPES)})]


class NewApiToken(BaseModel):
    """A token to be made. At most one of `expires_in_s` and `expires_at`; neither: it has no end."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"name": "dashboard", "role": "viewer", "scopes": ["devices:read", "types"], "expires_in_s": 7776000},
                {"name": "second admin", "role": "admin"},
            ]
        },
    )

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=_NAME_PATTERN)] = Field(
        description="For people: whose it is, what for."
    )
    role: RoleName
    scopes: Annotated[list[Scope], Field(max_length=64)] = Field(
        default=[],
        description="Families of operations, or operations, to which it is narrowed; none: all of its role.",
    )
    expires_in_s: Annotated[int, Field(ge=1, le=LONGEST_S)] | None = None
    expires_at: AwareDatetime | None = Field(default=None, description="In the future, within ten years.")

    @model_validator(mode="after")
    def _one_end(self) -> "NewApiToken":
        if self.expires_in_s is not None and self.expires_at is not None:
            raise ValueError("expires_in_s and expires_at say the same; send one of them")
        return self

    def end(self, now: datetime) -> datetime | None:
        """When it ends. Raises ValueError for a moment that is past or beyond ten years."""
        if self.expires_in_s is not None:
            return now + timedelta(seconds=self.expires_in_s)
        if self.expires_at is not None and not now < self.expires_at <= now + timedelta(seconds=LONGEST_S):
            raise ValueError("is not in the future, or more than ten years ahead")
        return self.expires_at


class ApiToken(BaseModel):
    """A token, without its secret."""

    id: str = Field(description="Its public half; the audit log names it.")
    name: str
    role: RoleName
    scopes: list[str]
    state: TokenState
    created_by: str | None = Field(description="The token that made it; null: `hub migrate`.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To a minute.")


class CreatedApiToken(ApiToken):
    """A token just made."""

    token: str | None = Field(
        description="`<id>.<secret>`, shown this once. Null in the repeat of a request whose token is in use."
    )


class ApiTokenList(BaseModel):
    """A page of tokens in order of id."""

    tokens: list[ApiToken]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


def token_view(row: Mapping[str, Any]) -> ApiToken:
    """A token as it is shown."""
    return ApiToken(**{name: row[name] for name in ApiToken.model_fields})


def created_token(row: Mapping[str, Any], token: str | None) -> CreatedApiToken:
    """The answer to a creation."""
    return CreatedApiToken(**{name: row[name] for name in ApiToken.model_fields}, token=token)
