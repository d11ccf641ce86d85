"""Real servers on one machine: `Stack`, a gateway's `LocalBroker`, and a `Link` that can be slowed and cut."""

from deploy.stack.link import Link
from deploy.stack.mosquitto import LocalBroker
from deploy.stack.server import Server
from deploy.stack.stack import Stack

__all__ = ["Link", "LocalBroker", "Server", "Stack"]
