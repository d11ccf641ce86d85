"""An export is an import: each line read again is the device that was written."""

import io
from datetime import UTC, datetime

import pytest

from control_plane.registry.device import Device
from control_plane.registry.fleet import export_lines
from control_plane.registry.fleet.import_lines import Format, Wanted, bounded, parse
from shared.device import Kind, Status

AT = datetime(2026, 1, 1, tzinfo=UTC)
DEVICES = [
    Device("gw", "GW", "gateway", Kind.GATEWAY, Status.ACTIVE, None, {}, 1, AT, AT),
    Device(
        "dev", 'odd ", =1;é', "t", Kind.DEVICE, Status.SUSPENDED, "gw", {"site": "a,b", "mains": ""}, 3, AT, AT,
        (), {"place": "hall 3", "lat": 52.5}, {"messages_per_s": 5.0},
    ),
]  # fmt: skip


@pytest.mark.parametrize("written", Format)
def test_what_is_written_is_read_again(written: Format) -> None:
    text = export_lines.header(written) + export_lines.lines(DEVICES, written)
    found = list(parse(bounded(io.BytesIO(text.encode()).readline), written))
    assert all(isinstance(item, Wanted) for item in found), found
    for device, item in zip(DEVICES, found, strict=True):
        assert isinstance(item, Wanted)
        request = item.device.request()
        assert (request.id, request.serial, request.type, request.kind, request.gateway_id) == (
            device.id, device.serial, device.type, device.kind, device.gateway_id,
        )  # fmt: skip
        assert (request.labels, request.location or None) == (device.labels, device.location)
        limits = item.device.limits.model_dump(exclude_none=True) if item.device.limits else None
        assert limits == device.limits
