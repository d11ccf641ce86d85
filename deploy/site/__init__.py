"""A whole installation on one machine, as the demo, the bench, the chaos runs and the tests use it.

Everything is driven as a user would: the hub through its commands and REST, gateways as processes with a local
broker each, Kafka through read_committed readers.
"""

from deploy.site.gateway import Gateway
from deploy.site.hub import Hub
from deploy.site.registry import Identity, Registry

__all__ = ["Gateway", "Hub", "Identity", "Registry"]
