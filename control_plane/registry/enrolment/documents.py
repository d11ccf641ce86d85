"""Enrolment's REST documents: what is accepted, with its limits, and what is shown. PURE."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from control_plane.registry.enrolment.rules import MOST_USES
from control_plane.registry.resources import LABELS, Id, LabelName, LabelValue, TypeName
from shared import enrolment_token

_NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"
HARDWARE_PATTERN = r"^[0-9a-f]{64}$"
MOST_REPORTED = 100

Serial = Annotated[str, Field(min_length=1, max_length=128, pattern=_NO_CONTROL)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewToken(_Document):
    """An enrolment token to be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"expires_s": 3600, "labels": {"site": "berlin"}},
                {"uses": 20, "expires_s": 86400, "type": "edge-gateway"},
                {"replaces": "hall-3", "expires_s": 3600},
            ]
        }
    )

    uses: int = Field(default=1, ge=1, le=MOST_USES, description="How many gateways may enrol with it.")
    expires_s: float = Field(default=3600, ge=1, le=timedelta(days=365).total_seconds())
    type: TypeName = Field(default="gateway", description="The type of the gateways that enrol.")
    labels: Annotated[dict[LabelName, LabelValue], Field(max_length=LABELS)] = {}
    replaces: Id | None = Field(
        default=None, description="The gateway whose devices the new hardware takes over; uses must then be 1."
    )


class TokenView(BaseModel):
    """An enrolment token, without its secret."""

    id: str
    type: str
    labels: dict[str, str]
    uses: int
    used: int
    replaces: str | None
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class MadeToken(TokenView):
    """An enrolment token just made."""

    token: str | None = Field(
        description="`<id>.<secret>.<SHA-256 of the hub's CA>`, shown this once. Null in the repeat of a request "
        "whose token was used."
    )


class TokenList(BaseModel):
    """A page of tokens in order of id."""

    tokens: list[TokenView]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class Hardware(_Document):
    """What a gateway says of itself. `hardware_id`: SHA-256 of what names the hardware; it stays when the software is
    installed anew.
    """

    serial: Serial
    hardware_id: Annotated[str, Field(pattern=HARDWARE_PATTERN)]


class EnrolmentRequest(_Document):
    """A gateway's request to be enrolled."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "token": "e-abcdefghijkm." + "x" * 43 + "." + "0" * 64,
                    "hardware": {"serial": "GW-17", "hardware_id": "0" * 64},
                    "csr": "-----BEGIN CERTIFICATE REQUEST-----\n…\n-----END CERTIFICATE REQUEST-----\n",
                    "agent_version": "0.1.0",
                }
            ]
        }
    )

    token: Annotated[str, Field(max_length=enrolment_token.LONGEST)]
    hardware: Hardware
    csr: Annotated[str, Field(max_length=4096)] = Field(
        description="A certificate signing request (PEM, EC P-256): it proves that the sender holds the private key."
    )
    agent_version: Annotated[str, Field(max_length=64, pattern=_NO_CONTROL)] = ""
    name: Id | None = Field(default=None, description="The id that the gateway would like, if it is new.")
    certificate: bool = Field(default=False, description="Issue a client certificate too.")


class EnrolledGateway(BaseModel):
    """A gateway's identity, and where the hub is."""

    gateway_id: str
    api_key: str = Field(description="`<key id>.<secret>`, shown this once.")
    mqtt_url: str
    mqtt_mtls_url: str | None
    api_url: str
    ca_pem: str
    pseudonyms: dict[str, str] = Field(description="Of the gateway and of each device that it speaks for.")
    certificate_pem: str | None = None


class ReportedDevice(_Document):
    """A device that a gateway heard and does not know. `id`: what it calls itself at the gateway's broker."""

    id: Id
    type: TypeName = "unknown"
    serial: Serial | None = Field(default=None, description="Its id if left out.")


class Report(_Document):
    """Devices that a gateway heard and does not know."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"devices": [{"id": "thermo-9", "type": "thermometer"}]}]}
    )

    devices: Annotated[list[ReportedDevice], Field(min_length=1, max_length=MOST_REPORTED)]


class ReportAnswer(BaseModel):
    """What became of each: `pending`, `known` (behind this gateway), `refused` for good, or ask again `later`."""

    devices: dict[str, str]


class KeyHash(BaseModel):
    """A live key of a device, for the gateway's own broker. `hash`: PBKDF2-SHA512 in the broker's form."""

    key_id: str
    hash: str


class OwnDevice(BaseModel):
    """A device that the gateway speaks for."""

    id: str
    pseudonym: str
    status: str
    keys: list[KeyHash]


class OwnDevices(BaseModel):
    """All devices of a gateway. `version` changes with any of it; also the ETag."""

    devices: list[OwnDevice]
    version: str
    unknown_devices: str = Field(description="What the policy wants done with others: reject, or pending.")
