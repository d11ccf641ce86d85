"""Which kind of refused connect a line of the broker's log tells of. PURE.

Mosquitto 2.0 says neither who was refused nor why beyond this: a wrong key, an unknown user, an ended key and
another's client id are all `not authorised`. A client id is its owner's choice and may imitate a line, so whole lines
are read.
"""

import re

TOPICS = ("$SYS/broker/log/N", "$SYS/broker/log/E")
KINDS = ("not_authorised", "protocol_error", "tls", "taken_over")
_LINES = (
    (re.compile(rb"Client <unknown> disconnected, not authorised\."), "not_authorised"),
    (re.compile(rb"Client <unknown> disconnected due to (?:protocol|malformed packet) error\."), "protocol_error"),
    # A handshake over plain MQTT, or broken off; and one whose certificates do not fit.
    (re.compile(rb"Client connection from [0-9a-fA-F:.]+ failed: error:.*"), "tls"),
    (re.compile(rb"OpenSSL Error\[0\]: .*"), "tls"),
    (re.compile(rb"Client .* already connected, closing old connection\.", re.DOTALL), "taken_over"),
)
_TIME = re.compile(rb"[0-9T:-]{8,24}: ")


def kind_of(line: bytes) -> str | None:
    """One of KINDS, or None for a line that tells of no refused connect."""
    text = line[found.end() :] if (found := _TIME.match(line)) else line
    return next((kind for pattern, kind in _LINES if pattern.fullmatch(text)), None)
