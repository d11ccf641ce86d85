"""Who may speak for a device. PURE, but for what it asks its registry."""

from collections.abc import Collection, Iterable
from typing import Protocol

from shared.device import DeviceView, Kind, refusal
from shared.errors import Reason, Rejected
from shared.ids import is_device_id
from shared.rates import Defaults

OWNERSHIP_SLACK_MS = 60_000
"""A gateway's clock may be this far from the hub's when a device changes its owner."""

_UNKNOWN_DEVICE = Rejected(Reason.UNKNOWN_DEVICE, "no device of this id is registered")
_UNKNOWN_GATEWAY = Rejected(Reason.UNKNOWN_GATEWAY, "no gateway of this id is registered")
_FOREIGN = Rejected(Reason.FOREIGN_DEVICE, "the gateway did not own the device when the reading was accepted")
_REPLACED = Rejected(Reason.FOREIGN_DEVICE, "another gateway took its place")
_DOUBTFUL = (Reason.UNKNOWN_DEVICE, Reason.FOREIGN_DEVICE)
_NO_GATEWAY = Rejected(Reason.PROTOCOL, "the sender is not a gateway")


class Registry(Protocol):
    """The local view of the registry topic. `defaults`: what types and the policy say of limits."""

    @property
    def defaults(self) -> Defaults:
        """As far as this process knows; never waits."""
        ...

    def get(self, device_id: str) -> DeviceView | None:
        """The device as far as this process knows; never waits."""
        ...

    def ask(self, device_ids: Collection[str]) -> None:
        """Look again for these where the truth is, so that `get` knows what there is; waits 200 ms at most."""
        ...


def direct(registry: Registry, device_id: str) -> DeviceView | Rejected:
    """The device that speaks for itself, or why it is not heard."""
    view = _find(registry, device_id)
    if view is None:
        return _UNKNOWN_DEVICE
    if view.replaced_ms is not None:
        return _REPLACED  # it drains by batches, and has nothing new to say
    return refusal(view.status) or view


def gateway(registry: Registry, gateway_id: str) -> DeviceView | Rejected:
    """The gateway, or why it is not heard; reason `protocol` if the sender is known and is none."""
    view = _find(registry, gateway_id)
    if view is None:
        return _UNKNOWN_GATEWAY
    if view.kind is not Kind.GATEWAY:
        return _NO_GATEWAY
    return refusal(view.status) or view


def _find(registry: Registry, device_id: str) -> DeviceView | None:
    view = registry.get(device_id)
    if view is None and is_device_id(device_id):
        registry.ask((device_id,))
        view = registry.get(device_id)
    return view


class Speakers:
    """Whom one gateway may speak for, remembered for the length of one batch."""

    def __init__(self, registry: Registry, gateway_id: str) -> None:
        self._registry = registry
        self._gateway = gateway_id
        self._own: dict[str, DeviceView] = {}

    def prepare(self, devices: Iterable[tuple[str, int]]) -> None:
        """Ask once for all of these (id, time of acceptance) that would be refused as unknown or foreign."""
        doubtful = set()
        for device_id, at_ms in devices:
            if is_device_id(device_id):
                found = self.judge(device_id, at_ms)
                if isinstance(found, Rejected) and found.reason in _DOUBTFUL:
                    doubtful.add(device_id)
        if doubtful:
            self._registry.ask(doubtful)

    def own(self, device_id: str) -> DeviceView | None:
        """The device, if it is heard and behind this gateway now: then whenever its reading was accepted."""
        view = self._own.get(device_id)
        if view is None:
            found = self._registry.get(device_id)
            if found is not None and self._owns_now(found) and refusal(found.status) is None:
                view = self._own[device_id] = found
        return view

    def judge(self, device_id: str, at_ms: int) -> DeviceView | Rejected:
        """The device, or why the gateway is not heard for it about the moment `at_ms`."""
        view = self.own(device_id)
        if view is not None:
            return view
        view = self._registry.get(device_id)
        if view is None:
            return _UNKNOWN_DEVICE
        if not view.owned_by(self._gateway, at_ms, slack_ms=OWNERSHIP_SLACK_MS):
            return _FOREIGN
        if view.replaced_ms is not None and at_ms >= view.replaced_ms + OWNERSHIP_SLACK_MS:
            return _REPLACED
        return refusal(view.status) or view

    def _owns_now(self, view: DeviceView) -> bool:
        if view.id == self._gateway:
            return view.replaced_ms is None
        return any(own.gateway_id == self._gateway and own.until_ms is None for own in view.gateways)
