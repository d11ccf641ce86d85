"""Renews this gateway's certificate: by the certificate itself, or, where that has ended, by the API key.

Promises: the key pair stays, so one file changes, whole and durable, by one rename: a crash at any step leaves a
certificate that fits its key, the old or the new. The new one is tried with the key before it takes the old one's
place, and used from the next connection on; the old one stays good until its end.
Leaves when to `certificate_life`, the exchange to `hub_call`, what needs a library to `certificate_child`.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent import certificate_child, certificate_life
from edge_agent.certificate_child import Told
from edge_agent.certificate_life import Life
from edge_agent.events import CertificateRenewed, RenewalFailed
from edge_agent.hub_call import Answer, Call, Hub, call
from shared.clock import Clock
from shared.config import Secret
from shared.errors import HubError, Permanent, Transient
from shared.tls import check_pair

_CREATED = 201
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Identity:
    """The files, and what tells the API key that is used where the certificate has ended."""

    certificate: Path
    key: Path
    api_key: Callable[[], Secret] | None = field(default=None, repr=False)


class Renewal:
    """One gateway's; `serve` it once."""

    def __init__(
        self,
        identity: Identity,
        hub: Hub,
        clock: Clock,
        *,
        look: Callable[[Path, Path], Awaitable[Told]] = certificate_child.look,
        ask: Callable[[Hub, Call], Awaitable[Answer]] = call,
    ) -> None:
        self._identity = identity
        self._hub = hub
        self._clock = clock
        self._look = look
        self._ask = ask

    async def serve(self, stopping: asyncio.Event) -> None:
        """Until `stopping`; raises nothing for what the hub, the network or the files do."""
        chance, failures = random.random(), 0  # noqa: S311 - jitter
        while not stopping.is_set():
            wait_s = certificate_life.LONGEST_WAIT_S
            try:
                told = await self._look(self._identity.certificate, self._identity.key)
                life = Life(told.not_before, told.not_after, chance, failures)
                if certificate_life.due(life, self._now()):
                    await self.renew(told)
                    failures = 0
                    continue
                wait_s = certificate_life.wait_s(Life(life.not_before, life.not_after, chance), self._now(), 0.0)
            except HubError as error:
                failures += 1
                life = Life(0.0, 0.0, chance, failures)
                wait_s = certificate_life.wait_s(life, self._now(), random.random())  # noqa: S311 - jitter
                RenewalFailed(str(error), round(wait_s)).emit()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await stopping.wait()

    async def renew(self, told: Told) -> None:
        """Get a new certificate and put it in the old one's place. Raises Transient or Permanent."""
        answer = None
        if self._now() < told.not_after:
            body: dict[str, object] = {
                "csr": told.csr,
                "certificate": told.certificate,
                "signature": told.signature,
            }
            answer = await self._ask(self._hub, Call("POST", "/v1/self/certificates:renew", body=body))
        if (answer is None or answer.status == _UNAUTHORIZED) and self._identity.api_key is not None:
            by_key = Call("POST", "/v1/self/certificates", key=self._identity.api_key(), body={"csr": told.csr})
            answer = await self._ask(self._hub, by_key)
        if answer is None or answer.status != _CREATED:
            status = "no key to ask with" if answer is None else f"the hub answered {answer.status}"
            raise Transient(f"the certificate was not renewed: {status}")
        pem = answer.body.get("certificate_pem")
        if not isinstance(pem, str):
            raise Permanent("the hub's answer holds no certificate")
        await asyncio.to_thread(self._replace, pem)
        CertificateRenewed().emit()

    def _replace(self, pem: str) -> None:
        path = self._identity.certificate
        fresh = path.with_name(path.name + ".new")
        try:
            with suppress(FileNotFoundError):
                fresh.unlink()  # of a renewal that was cut off
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem.encode())
                file.flush()
                os.fsync(file.fileno())
            check_pair(fresh, self._identity.key)
            fresh.rename(path)
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise Transient(f"the new certificate cannot be kept: {error.strerror}") from error

    def _now(self) -> float:
        return self._clock.wall_ms() / 1_000
