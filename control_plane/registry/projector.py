"""One device's keys at the broker, now: after its status or its keys changed, and before the answer is given.

Promises: what may no longer connect is disabled or deleted first, ahead of everything else that waits for the broker,
which closes its session. What cannot be done now (the broker is away) is left to the reconciler.
"""

from collections.abc import Callable

from control_plane.registry import dynsec, projection
from control_plane.registry.broker import Broker, BrokerRefused
from control_plane.registry.dynsec import Command
from control_plane.registry.projection import KeyState
from control_plane.registry.store import Store
from shared.errors import Transient
from shared.ids import DeviceId


class Projector:
    """`wake_reconciler` is called when the broker could not be told."""

    def __init__(self, store: Store, broker: Broker, wake_reconciler: Callable[[], None]) -> None:
        self._store = store
        self._broker = broker
        self._wake_reconciler = wake_reconciler

    async def device(self, device_id: DeviceId) -> bool:
        """Bring the broker's records of this device into line with Postgres; False if the broker is away."""
        keys = await self._store.broker_keys_of(device_id)
        try:
            for name, key in keys.items():
                if key.state is not KeyState.PENDING:
                    await self._do(_wanted(name, key), urgent=not key.enabled or key.state is KeyState.ENDED)
        except Transient:
            self._wake_reconciler()
            return False
        return True

    async def _do(self, command: Command, *, urgent: bool) -> None:
        try:
            await self._broker.command(command, urgent=urgent)
        except BrokerRefused as error:
            if error.words != dynsec.NOT_FOUND:  # a record that is not there cannot be used; the reconciler counts it
                raise


def _wanted(name: str, key: projection.Key) -> Command:
    if key.state is KeyState.ENDED:
        return dynsec.delete_client(name)
    return dynsec.enable_client(name) if key.enabled else dynsec.disable_client(name)
