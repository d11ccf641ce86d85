"""The REST API's documents: what is accepted, with its limits, and what is shown. PURE.

Unknown fields are refused, so that a misspelt one is not silently without effect.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from control_plane.registry.device import Device, DeviceType
from control_plane.registry.registration import Request
from shared.device import Kind, Status
from shared.errors import Rejected
from shared.ids import ID_PATTERN, DeviceId, parse_device_id

LABELS = 16
METRICS = 64
TYPE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_FIELD_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
_NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"


def _device_id(text: str) -> str:
    parsed = parse_device_id(text)
    if isinstance(parsed, Rejected):
        raise ValueError(parsed.detail)  # noqa: TRY004 - pydantic's way to refuse
    return parsed


Id = Annotated[str, AfterValidator(_device_id), Field(json_schema_extra={"pattern": ID_PATTERN})]
TypeName = Annotated[str, Field(pattern=TYPE_PATTERN)]
LabelName = Annotated[str, Field(pattern=_FIELD_PATTERN)]
LabelValue = Annotated[str, Field(max_length=128, pattern=_NO_CONTROL)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Location(_Document):
    """Where it stands; each part may be left out."""

    place: Annotated[str, Field(min_length=1, max_length=128, pattern=_NO_CONTROL)] | None = None
    lat: Annotated[FiniteFloat, Field(ge=-90, le=90)] | None = None
    lon: Annotated[FiniteFloat, Field(ge=-180, le=180)] | None = None


class RateLimits(_Document):
    """How much may be sent; what is left out is the type's, or the hub's default."""

    messages_per_s: Annotated[FiniteFloat, Field(gt=0, le=1e9)] | None = None
    bytes_per_s: Annotated[FiniteFloat, Field(gt=0, le=1e12)] | None = None
    readings_per_s: Annotated[FiniteFloat, Field(gt=0, le=1e9)] | None = None


class NewDevice(_Document):
    """A registration."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": "cellar-1", "serial": "SN-0001", "type": "thermometer", "labels": {"site": "berlin"}},
                {"serial": "GW-17", "type": "edge-gateway", "kind": "gateway"},
                {"serial": "SN-0002", "type": "thermometer", "gateway_id": "hall-3"},
            ]
        }
    )

    id: Id | None = Field(default=None, description="Chosen by the hub if left out.")
    serial: Annotated[str, Field(min_length=1, max_length=128, pattern=_NO_CONTROL)]
    type: TypeName
    kind: Kind = Kind.DEVICE
    gateway_id: Id | None = Field(
        default=None, description="The gateway that speaks for it; none: directly attached."
    )
    labels: Annotated[dict[LabelName, LabelValue], Field(max_length=LABELS)] = {}
    location: Location | None = None

    def request(self) -> Request:
        """The same in the domain's words."""
        return Request(
            serial=self.serial,
            type=self.type,
            kind=self.kind,
            id=DeviceId(self.id) if self.id else None,
            gateway_id=DeviceId(self.gateway_id) if self.gateway_id else None,
            labels=self.labels,
            location=self.location.model_dump(exclude_none=True) if self.location else {},
        )


class Assignment(_Document):
    """Which gateway a device is behind from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"gateway_id": "hall-3"}, {"gateway_id": None}]})

    gateway_id: Id | None


class MetricExpectation(_Document):
    """What a metric's values should be; outside of `min` to `max` a reading is anomalous."""

    unit: Annotated[str, Field(max_length=16, pattern=_NO_CONTROL)] | None = None
    min: FiniteFloat | None = None
    max: FiniteFloat | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "MetricExpectation":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is larger than max")
        return self


class TypeExpectation(_Document):
    """A type's metrics by name."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"metrics": {"temperature": {"unit": "°C", "min": -20, "max": 60}}}]}
    )

    metrics: Annotated[dict[LabelName, MetricExpectation], Field(max_length=METRICS)]
    limits: RateLimits | None = Field(default=None, description="For each of its devices that has none of its own.")

    def stored(self) -> dict[str, Any]:
        """The metrics as the database keeps them: only what was said."""
        return {name: metric.model_dump(exclude_none=True) for name, metric in self.metrics.items()}

    def stored_limits(self) -> dict[str, float] | None:
        """The limits likewise."""
        return self.limits.model_dump(exclude_none=True) if self.limits else None


class KeyView(BaseModel):
    """One live key, without its secret."""

    key_id: str
    created_at: datetime
    last_used_at: datetime | None


class DeviceView(BaseModel):
    """A registered device."""

    id: str
    serial: str
    type: str
    kind: Kind
    status: Status
    gateway_id: str | None
    labels: dict[str, str]
    location: dict[str, str | float] | None = Field(description="place, lat, lon, as far as known.")
    limits: dict[str, float] | None = Field(description="Its own limits; null: its type's, or the default.")
    version: int = Field(description="Rises with every change of what the registry says of it.")
    created_at: datetime
    updated_at: datetime


class DeviceDetail(DeviceView):
    """A registered device with its live keys."""

    keys: list[KeyView]


class RegisteredDevice(DeviceDetail):
    """A device just registered."""

    api_key: str | None = Field(
        description="`<key id>.<secret>`, shown this once. The key id is the MQTT user name, the secret the "
        "password, the device's id the client id. Null in the repeat of a request whose key is in use."
    )


class DeviceList(BaseModel):
    """A page of devices in order of id. It may be shorter than `limit`, even empty, and not the last."""

    devices: list[DeviceView]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class TypeView(BaseModel):
    """A device type."""

    name: str
    metrics: dict[str, dict[str, str | float]] = Field(description="What was said of each metric: unit, min, max.")
    limits: dict[str, float] | None = Field(description="For each of its devices that has none of its own.")
    version: int
    updated_at: datetime


class TypeList(BaseModel):
    """A page of types in order of name."""

    types: list[TypeView]
    next_cursor: str | None


def view(device: Device) -> DeviceView:
    """A device as a list shows it."""
    return DeviceView(**_fields(device))


def detail(device: Device) -> DeviceDetail:
    """A device as a page of its own."""
    return DeviceDetail(**_fields(device), keys=_keys(device))


def registered(device: Device, api_key: str | None) -> RegisteredDevice:
    """The answer to a registration."""
    return RegisteredDevice(**_fields(device), keys=_keys(device), api_key=api_key)


def type_view(found: DeviceType) -> TypeView:
    """A type as it is shown."""
    metrics = {name: dict(values) for name, values in found.metrics.items()}
    limits = dict(found.limits) if found.limits else None
    return TypeView(
        name=found.name, metrics=metrics, limits=limits, version=found.version, updated_at=found.updated_at
    )


def _fields(device: Device) -> dict[str, Any]:
    return {
        "id": device.id,
        "serial": device.serial,
        "type": device.type,
        "kind": device.kind,
        "status": device.status,
        "gateway_id": device.gateway_id,
        "labels": dict(device.labels),
        "location": dict(device.location) if device.location else None,
        "limits": dict(device.limits) if device.limits else None,
        "version": device.version,
        "created_at": device.created_at,
        "updated_at": device.updated_at,
    }


def _keys(device: Device) -> list[KeyView]:
    return [
        KeyView(key_id=key.key_id, created_at=key.created_at, last_used_at=key.last_used_at) for key in device.keys
    ]
