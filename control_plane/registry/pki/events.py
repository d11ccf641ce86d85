"""What the CA did, and the metrics that it moves."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from shared.events import Event

ISSUED = Counter("gateway_certificates_issued", "Client certificates issued to gateways")
LISTED = Gauge("gateway_certificates_listed", "Certificates on the list of revocations")


@dataclass(frozen=True, slots=True)
class CertificateIssued(Event):
    """A gateway got a certificate."""

    def measure(self) -> None:
        ISSUED.inc()


@dataclass(frozen=True, slots=True)
class RevocationsListed(Event):
    """The broker was told of a new list of revocations."""

    count: int

    def measure(self) -> None:
        LISTED.set(self.count)


@dataclass(frozen=True, slots=True)
class RevocationsNotListed(Event):
    """The broker's list of revocations is old; tried again."""

    LEVEL = logging.WARNING
    error: str
