"""Which key connected, from a line of the broker's log. PURE.

Mosquitto writes, for each success: `<time>: New client connected from <address> as <client id> (p5, c1, k60,
u'<user name>').` A client id is the client's choice and may imitate the rest, so only the end of the line is read.
"""

import re

from shared.ids import KeyId

TOPIC = "$SYS/broker/log/N"
_CONNECTED = re.compile(
    rb": New client connected from .* \(p[0-9], c[01], k[0-9]+, u'(k:[a-z0-9]{1,64})'\)\.\Z", re.DOTALL
)


def used_key(line: bytes) -> KeyId | None:
    """The key with which somebody just connected, or None for any other line and for our own services."""
    found = _CONNECTED.search(line)
    return KeyId(found[1].decode()) if found else None
