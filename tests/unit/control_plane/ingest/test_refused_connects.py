"""Lines as Mosquitto 2.0.11 writes them. That it does: tests/stack/ingest/test_broker_watch.py."""

import pytest

from control_plane.ingest.refused_connects import KINDS, kind_of

AT = b"2026-01-01T00:00:00: "


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"Client <unknown> disconnected, not authorised.", "not_authorised"),
        (b"Client <unknown> disconnected due to protocol error.", "protocol_error"),
        (b"Client <unknown> disconnected due to malformed packet error.", "protocol_error"),
        (b"Client connection from 127.0.0.1 failed: error:0A00010B:SSL routines::wrong version number.", "tls"),
        (b"OpenSSL Error[0]: error:0A000418:SSL routines::tlsv1 alert unknown ca", "tls"),
        (b"Client dev-1 already connected, closing old connection.", "taken_over"),
        (b"Client dev-1 disconnected.", None),
        (b"Client dev-1 disconnected due to protocol error.", None),
        (b"Client <unknown> disconnected: Protocol error.", None),  # follows a TLS failure, which was counted
        (b"New client connected from 127.0.0.1:1 as x (p5, c1, k60, u'k:a').", None),
        (
            b"New client connected from 127.0.0.1:1 as Client <unknown> disconnected, not authorised. (p5, c1, k60).",
            None,
        ),
        (b"Client x disconnected.\nClient <unknown> disconnected, not authorised.", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
@pytest.mark.parametrize("at", [AT, b"1795573844: ", b""])
def test_each_line(at: bytes, line: bytes, kind: str | None) -> None:
    assert kind_of(at + line) == kind
    assert kind is None or kind in KINDS
